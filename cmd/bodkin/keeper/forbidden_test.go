package keeper

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestForbidden: what systemd-logind does at a logout.
func TestForbidden(t *testing.T) {
	const (
		inScope = "0::/user.slice/user-1000.slice/session-7.scope\n"
		older   = "12:pids:/user.slice/user-1000.slice/session-c2.scope\n1:name=systemd:/user.slice/user-1000.slice/session-c2.scope\n"
		manager = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/some.scope\n"
		service = "0::/system.slice/ssh.service\n"
	)
	for _, c := range []struct {
		what  string
		group string
		files map[string]string
		no    bool
	}{
		{"nothing is said", inScope, nil, false},
		{"no login of logind's", service, map[string]string{"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n"}, false},
		{"under the user's own systemd", manager, map[string]string{"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n"}, false},
		{"yes", inScope, map[string]string{"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n"}, true},
		{"yes, on an older system", older, map[string]string{"etc/systemd/logind.conf": "[Login]\nKillUserProcesses = TRUE\n"}, true},
		{"in another section", inScope, map[string]string{"etc/systemd/logind.conf": "[Manager]\nKillUserProcesses=yes\n"}, false},
		{"no", inScope, map[string]string{"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=no\n"}, false},
		{"commented out, which is what was built in", inScope, map[string]string{"etc/systemd/logind.conf": "[Login]\n#KillUserProcesses=no\n"}, false},
		{"built in", inScope, map[string]string{"usr/lib/systemd/logind.conf": "[Login]\n#KillUserProcesses=yes\n"}, true},
		{"built in, and switched off", inScope, map[string]string{"etc/systemd/logind.conf": "[Login]\n#KillUserProcesses=yes\nKillUserProcesses=no\n"}, false},
		{"the machine's file hides the system's", inScope, map[string]string{
			"usr/lib/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n", "etc/systemd/logind.conf": "[Login]\n",
		}, false},
		{"beside it", inScope, map[string]string{
			"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=no\n", "etc/systemd/logind.conf.d/kill.conf": "[Login]\nKillUserProcesses=on\n",
		}, true},
		{"the last name counts", inScope, map[string]string{
			"etc/systemd/logind.conf.d/10-kill.conf": "[Login]\nKillUserProcesses=yes\n", "usr/lib/systemd/logind.conf.d/20-not.conf": "[Login]\nKillUserProcesses=no\n",
		}, false},
		{"of the same name the machine's", inScope, map[string]string{
			"etc/systemd/logind.conf.d/x.conf": "[Login]\n", "usr/lib/systemd/logind.conf.d/x.conf": "[Login]\nKillUserProcesses=yes\n",
		}, false},
		{"a comment beside it is none of a default", inScope, map[string]string{"etc/systemd/logind.conf.d/x.conf": "[Login]\n#KillUserProcesses=yes\n"}, false},
		{"not us", inScope, map[string]string{"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=root ann\n"}, false},
		{"only others", inScope, map[string]string{"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\nKillOnlyUsers=bob\n"}, false},
		{"us among others", inScope, map[string]string{"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\nKillOnlyUsers=bob\nKillOnlyUsers=ann\n"}, true},
	} {
		machine := fstest.MapFS{"proc/self/cgroup": {Data: []byte(c.group)}}
		for name, text := range c.files {
			machine[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if why := forbidden(machine, "ann"); (why != "") != c.no {
			t.Errorf("%s: %q", c.what, why)
		}
	}
	excepted := fstest.MapFS{
		"proc/self/cgroup":        {Data: []byte(inScope)},
		"etc/systemd/logind.conf": {Data: []byte("[Login]\nKillUserProcesses=yes\n")},
	}
	if why := forbidden(excepted, "root"); why != "" {
		t.Errorf("root: %q", why)
	}
	if why := forbidden(fstest.MapFS{}, "ann"); why != "" {
		t.Errorf("a machine without files: %q", why)
	}
}

// FuzzLogind: whatever the file holds, what is read is yes or no by its last word on it.
func FuzzLogind(f *testing.F) {
	f.Add("[Login]\nKillUserProcesses=yes\n", true)
	f.Add("[Login]\n#KillUserProcesses=yes\nKillOnlyUsers=\n", false)
	f.Fuzz(func(t *testing.T, text string, yes bool) {
		var l logind
		l.read(text, true)
		word := "no"
		if yes {
			word = "yes"
		}
		l.read(text+"\n[Login]\nKillUserProcesses="+word+"\nKillOnlyUsers=\nKillOnlyUsers=ann\n", false)
		if l.kill != yes || strings.Join(l.only, " ") != "ann" {
			t.Errorf("%+v after %q", l, text)
		}
	})
}
