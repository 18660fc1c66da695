package profile

import (
	"fmt"
	"regexp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	file "github.com/bodkin-net/bodkin/config/profile"
)

// apply sets the flags of cmd that its profile has a word on, and the command line has
// none, and returns the arguments that it then has. Without a profile that is meant,
// nothing is changed.
func (s *Set) apply(cmd *cobra.Command, args []string) ([]string, error) {
	name := file.Server
	if cmd.Name() != file.Server {
		// What is no bare word is a target, and none of the file's affair.
		if len(args) == 0 || cmd.ArgsLenAtDash() == 0 || !file.IsName(args[0]) {
			return args, nil
		}
		if name = args[0]; name == file.Server {
			return args, nil
		}
	}
	f, err := s.Load(cmd)
	if err != nil {
		return nil, err
	}
	t := f.Table(name)
	if t == nil {
		if named := cmd.Flags().Lookup(configFlag); named != nil && named.Changed && name != file.Server {
			hint := "me@" + name + " or ssh://" + name + " is the host of that name"
			if near := file.Nearest(name, f.Profiles()); near != "" {
				hint = "did you mean " + near + "?"
			}
			return nil, &config.Error{Reason: fmt.Sprintf("%s has no profile %q", f.Name, name), Hint: hint}
		}
		return args, nil
	}
	if err := judge(f, t, s.maker(cmd)); err != nil {
		return nil, err
	}
	given := map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = true })
	if err := set(cmd, t, steps(t), given); err != nil {
		return nil, err
	}
	return arguments(cmd, t, args), nil
}

// devicePattern is what a tunnel's name may be.
var devicePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,14}$`)

// A step is one value of a table.
type step struct {
	setting file.Setting
	value   int // which of its values; -1 for none, of an empty list
}

// steps are the values of a table, in the file's order.
func steps(t *file.Table) []step {
	var list []step
	for _, s := range t.Settings {
		if len(s.Values) == 0 {
			list = append(list, step{s, -1})
		}
		for i := range s.Values {
			list = append(list, step{s, i})
		}
	}
	return list
}

// set sets the flags of cmd that steps have, but for those that the command line has. A
// list takes the place of the flag's default.
func set(cmd *cobra.Command, t *file.Table, steps []step, given map[string]bool) error {
	flags := cmd.Flags()
	if f := flags.Lookup(nameFlag); f != nil && !given[nameFlag] && t.Name != file.Server && devicePattern.MatchString(t.Name) {
		if err := flags.Set(nameFlag, t.Name); err != nil {
			return err
		}
	}
	lists := map[string][]string{}
	for _, s := range steps {
		f := flags.Lookup(s.setting.Key)
		if f == nil || !isKey(f) || given[f.Name] {
			continue // another command's key, an argument, or overridden
		}
		slice, many := f.Value.(pflag.SliceValue)
		switch {
		case !many:
			if err := flags.Set(f.Name, s.setting.Values[s.value].Text); err != nil {
				return report.Usage(err)
			}
		default:
			if s.value >= 0 {
				lists[f.Name] = append(lists[f.Name], s.setting.Values[s.value].Text)
			}
			if err := slice.Replace(lists[f.Name]); err != nil {
				return err
			}
			f.Changed = true
		}
	}
	return nil
}

// arguments puts the profile's target in the place of its name, and its routes where
// none were given. What stands behind two dashes is another command's.
func arguments(cmd *cobra.Command, t *file.Table, args []string) []string {
	if t.Name == file.Server {
		return args
	}
	own := len(args)
	if dash := cmd.ArgsLenAtDash(); dash > 0 {
		own = dash
	}
	made := append([]string(nil), t.Texts(targetKey)...)
	made = append(made, args[1:own]...)
	if own == 1 && takesRoutes(cmd) {
		made = append(made, t.Texts(routesKey)...)
	}
	return append(made, args[own:]...)
}
