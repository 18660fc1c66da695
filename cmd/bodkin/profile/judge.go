package profile

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	file "github.com/bodkin-net/bodkin/config/profile"
)

// judge asks the command that fresh makes what it thinks of a table; nil for fresh is none
// to ask.
func judge(f *file.File, t *file.Table, fresh func() *cobra.Command) error {
	if t.Name != file.Server && len(t.Texts(targetKey)) == 0 {
		return &file.Error{File: f.Name, At: t.At, Reason: fmt.Sprintf("[%s] says no target", t.Name), Hint: `target = "me@gw.example.org"`}
	}
	if fresh == nil {
		return nil
	}
	return judgeFor(f, t, fresh)
}

// user makes the command that a table is for, the first client for a profile; nil if there is
// none.
func (s *Set) user(table string) func() *cobra.Command {
	switch {
	case table == file.Server:
		return s.Server
	case len(s.Clients) > 0:
		return s.Clients[0]
	}
	return nil
}

// maker makes commands like cmd, which takes profiles.
func (s *Set) maker(cmd *cobra.Command) func() *cobra.Command {
	for _, fresh := range append(s.Clients[:len(s.Clients):len(s.Clients)], s.Server) {
		if fresh != nil && fresh().Name() == cmd.Name() {
			return fresh
		}
	}
	return nil
}

// judgeFor asks one command. A refusal is of the first value with which it is as it is
// with all: what two values are about together is said of the later one.
func judgeFor(f *file.File, t *file.Table, fresh func() *cobra.Command) error {
	all := steps(t)
	whole := try(t, all, fresh())
	if whole == nil {
		return nil
	}
	at := t.At
	for i := range all {
		if err := try(t, all[:i+1], fresh()); err == nil || err.Error() != whole.Error() {
			continue
		}
		at = all[i].setting.At
		if v := all[i].value; v >= 0 {
			at = all[i].setting.Values[v].At
		}
		break
	}
	return &file.Error{File: f.Name, At: at, Reason: whole.Error(), Err: whole}
}

// try gives the steps to a command of its own, and returns what it makes of them. The
// target is always there.
func try(t *file.Table, steps []step, cmd *cobra.Command) error {
	cmd.SetContext(context.Background())
	if err := set(cmd, t, steps, nil); err != nil {
		return err
	}
	if cmd.PreRunE == nil {
		return nil
	}
	part := &file.Table{Name: t.Name}
	for _, s := range steps {
		if s.setting.Key != targetKey && (len(part.Settings) == 0 || part.Settings[len(part.Settings)-1].Key != s.setting.Key) {
			part.Settings = append(part.Settings, file.Setting{Key: s.setting.Key})
		}
		if last := len(part.Settings) - 1; s.value >= 0 && s.setting.Key != targetKey {
			part.Settings[last].Values = append(part.Settings[last].Values, s.setting.Values[s.value])
		}
	}
	if target := t.Setting(targetKey); target != nil {
		part.Settings = append(part.Settings, *target)
	}
	return cmd.PreRunE(cmd, arguments(cmd, part, []string{t.Name}))
}
