// Package profile gives commands their profiles, and is `bodkin profile`.
//
// A profile says what a command line says, and nothing else: it is turned into the
// flags and arguments of the command it is given to, by the command's own flags, and what
// they mean is checked by the command's own check. So there is nothing that a profile can
// say and a command line cannot, or the other way round.
//
//	profile.go   Set: which commands take profiles; Teach, which makes them
//	apply.go     a profile -> flags and arguments
//	judge.go     what is wrong with a profile, and where
//	file.go      which file, and whether to believe it
//	command.go,
//	verdict.go   bodkin profile: list, show, check
//
// What the file looks like is package config/profile's affair.
package profile

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	file "github.com/bodkin-net/bodkin/config/profile"
)

// A Set is the commands that take profiles. Each is made anew when a profile is to be
// checked: its PreRunE, if it has one, makes a checked config of flags and arguments and
// touches nothing; its RunE carries that out.
type Set struct {
	// Clients take the name of a profile in place of their first argument, the
	// target. A key of a profile is a flag of one of them; each takes those it has. The
	// first is what a profile is for when nobody says which of them.
	Clients []func() *cobra.Command

	// Server, if not nil, takes the file's table [serve], without being asked.
	Server func() *cobra.Command
}

// The keys that are arguments and no flags.
const (
	targetKey = "target"
	routesKey = "routes"
)

// configFlag names the file, in place of the usual one.
const configFlag = "config"

// nameFlag is the flag of a tunnel's name, which is the profile's unless said otherwise.
const nameFlag = "name"

// Flag adds --config to a command's flags.
func Flag(f *pflag.FlagSet) {
	f.String(configFlag, "", "the `FILE` of profiles (default ~/.config/bodkin/config.toml)")
}

// Teach makes cmd take profiles, and returns it. Its PreRunE and RunE get the arguments
// that the profile makes of those that were given.
func (s *Set) Teach(cmd *cobra.Command) *cobra.Command {
	Flag(cmd.Flags())
	check, run, complete := cmd.PreRunE, cmd.RunE, cmd.ValidArgsFunction
	var made []string
	cmd.PreRunE = func(cmd *cobra.Command, args []string) (err error) {
		if made, err = s.apply(cmd, args); err != nil || check == nil {
			return err
		}
		return check(cmd, made)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd, made) }
	if cmd.Name() == file.Server {
		return cmd
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) (list []string, d cobra.ShellCompDirective) {
		d = cobra.ShellCompDirectiveNoFileComp
		if complete != nil {
			list, d = complete(cmd, args, prefix)
		}
		if len(args) == 0 {
			names, _ := s.Complete(cmd, args, prefix)
			list = append(names, list...)
		}
		return list, d
	}
	return cmd
}

// Complete offers the names of the profiles, as cobra.Command.ValidArgsFunction.
func (s *Set) Complete(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	f, err := s.Load(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, name := range f.Profiles() {
		if to := f.Table(name).Texts(targetKey); len(to) > 0 {
			name += "\t" + to[0]
		}
		names = append(names, name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// keys are those that a table of that name may have.
func (s *Set) keys(table string) []file.Key {
	if table == file.Server {
		if s.Server == nil {
			return nil
		}
		return flagKeys(nil, s.Server())
	}
	keys := []file.Key{{Name: targetKey}, {Name: routesKey, Many: true}}
	for _, client := range s.Clients {
		keys = flagKeys(keys, client())
	}
	return keys
}

// flagKeys appends to keys those of a command's flags that are not there yet.
func flagKeys(keys []file.Key, cmd *cobra.Command) []file.Key {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.ContainsFunc(keys, func(k file.Key) bool { return k.Name == f.Name }) && isKey(f) {
			keys = append(keys, keyOf(f))
		}
	})
	return keys
}

// isKey reports whether a flag can stand in a profile: all but those that say which
// file it is in, or that want no run at all.
func isKey(f *pflag.Flag) bool { return f.Name != configFlag && f.Name != "help" && f.Deprecated == "" }

// keyOf is the key of a flag, by its type.
func keyOf(f *pflag.Flag) file.Key {
	k := file.Key{Name: f.Name}
	_, k.Many = f.Value.(pflag.SliceValue)
	switch t := f.Value.Type(); {
	case t == "bool":
		k.Kind = file.Boolean
	case t == "count", strings.HasPrefix(t, "int"), strings.HasPrefix(t, "uint"):
		k.Kind = file.Integer
	}
	return k
}

// takesRoutes reports whether what a command is given after its target are routes.
func takesRoutes(cmd *cobra.Command) bool { return strings.Contains(cmd.Use, "[CIDR...]") }
