package keeper

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// sessionScope is a login's control group, as systemd-logind names it.
var sessionScope = regexp.MustCompile(`(?m)/session-[^/\n]+\.scope(/|$)`)

// forbidden says why the machine whose files these are ends the processes of a user when
// they log out, or nothing if it does not: systemd-logind does, where a login is in a
// scope of its own and KillUserProcesses is on for that user (logind.conf(5)). Whether the
// user lingers makes no difference to it.
func forbidden(machine fs.FS, user string) string {
	group, err := fs.ReadFile(machine, "proc/self/cgroup")
	if err != nil || !sessionScope.Match(group) {
		return ""
	}
	l := readLogind(machine)
	switch {
	case !l.kill, slices.Contains(l.exclude, user), len(l.only) > 0 && !slices.Contains(l.only, user):
		return ""
	}
	return "systemd-logind ends all processes at a logout (KillUserProcesses=yes in logind.conf)"
}

// A logind is what logind.conf(5) says of logouts.
type logind struct {
	kill          bool
	only, exclude []string // users
}

// readLogind reads the first file there is of the name, and then all that is to be read
// beside it, in the order of the names; of files with the same name the first.
func readLogind(machine fs.FS) logind {
	l := logind{exclude: []string{"root"}}
	dirs := []string{"etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"}
	for _, dir := range dirs {
		if text, err := fs.ReadFile(machine, path.Join(dir, "logind.conf")); err == nil {
			l.read(string(text), true)
			break
		}
	}
	beside := map[string]string{}
	for _, dir := range dirs {
		found, _ := fs.Glob(machine, path.Join(dir, "logind.conf.d", "*.conf"))
		for _, file := range found {
			if _, masked := beside[path.Base(file)]; !masked {
				beside[path.Base(file)] = file
			}
		}
	}
	var names []string
	for name := range beside {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if text, err := fs.ReadFile(machine, beside[name]); err == nil {
			l.read(string(text), false)
		}
	}
	return l
}

// read takes in one file. In the main file, the comment that shows what was built in
// counts as well.
func (l *logind) read(text string, main bool) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || section != "[Login]" {
			continue
		}
		switch key {
		case "KillUserProcesses":
			l.kill = isYes(value)
		case "#KillUserProcesses":
			if main {
				l.kill = isYes(value)
			}
		case "KillOnlyUsers":
			l.only = list(l.only, value)
		case "KillExcludeUsers":
			l.exclude = list(l.exclude, value)
		}
	}
}

// isYes reports what systemd.syntax(7) takes for true.
func isYes(value string) bool {
	return slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(value))
}

// list is what systemd makes of a list's line: more of it, or, with nothing, none.
func list(so []string, value string) []string {
	if value == "" {
		return nil
	}
	return append(so, strings.Fields(value)...)
}
