package profile

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/config"
	file "github.com/bodkin-net/bodkin/config/profile"
)

// Command is `bodkin profile`.
func (s *Set) Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "Say which profiles there are, what they do, and what is wrong with them",
		Long: `A profile is a command line with a name. It stands in ~/.config/bodkin/config.toml, or
$XDG_CONFIG_HOME/bodkin/config.toml, or the file that --config names:

    [work]
    target = "me@office.example.org"
    routes = ["10.0.0.0/8"]
    exclude = ["10.1.0.0/16"]
    dns = ["corp.example"]
    via = ["http://me@proxy:3128"]
    password = ["me@proxy=run:pass show proxy"]

    [serve]
    listen = [":443"]

Then ` + "`bodkin up work`" + ` is the whole command. The keys are the flags of bodkin up by their
own names, target and routes for its arguments; what takes several values takes a list. A
flag on the command line wins over the profile's, and prefixes there over its routes. A
word that is the name of a profile is that; me@work or ssh://work is the host of that name.
The tunnel has the profile's name unless it says another: ` + "`bodkin down work`" + `.

[serve] is what bodkin serve does, its flags by their own names. Each command reads its own
part, so that the same file can be used on both hosts. No password stands in it, only where
one comes from: "@FILE", "env:NAME", "run:COMMAND", "ask".

A file that others may write is not used. What is not understood is refused, with its line.`,
		Example: `  bodkin profile list
  bodkin profile show work
  bodkin profile check`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	Flag(cmd.PersistentFlags())
	cmd.AddCommand(s.listCommand(), s.showCommand(), s.checkCommand())
	return cmd
}

// words makes what is wrong with the number of arguments a call that cannot be
// understood; package report does so for commands right below the root.
func words(check cobra.PositionalArgs, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check(cmd, args) != nil {
			return &config.Error{Reason: fmt.Sprintf("%s wants %s", cmd.CommandPath(), want), Hint: cmd.UseLine()}
		}
		return nil
	}
}

// A Description is what is said of one profile; its JSON is what `bodkin profile list
// --json` and `show --json` print.
type Description struct {
	Name     string           `json:"name"`
	File     string           `json:"file"`
	At       file.Position    `json:"at"`
	Target   string           `json:"target,omitempty"`
	Settings map[string][]any `json:"settings"`
	Command  []string         `json:"command"` // the same without a profile
}

// describe says what a table does.
func (s *Set) describe(f *file.File, t *file.Table) Description {
	d := Description{Name: t.Name, File: f.Name, At: t.At, Settings: map[string][]any{}, Command: s.commandLine(t)}
	if to := t.Texts(targetKey); len(to) > 0 {
		d.Target = to[0]
	}
	for _, setting := range t.Settings {
		values := []any{}
		for _, v := range setting.Values {
			switch v.Kind {
			case file.Boolean:
				values = append(values, v.Text == "true")
			case file.Integer:
				values = append(values, json.Number(v.Text))
			default:
				values = append(values, v.Text)
			}
		}
		d.Settings[setting.Key] = values
	}
	return d
}

// commandLine is what a table stands for, with the first of the commands it is for.
func (s *Set) commandLine(t *file.Table) []string {
	fresh := s.user(t.Name)
	if fresh == nil {
		return nil
	}
	cmd := fresh()
	line := []string{"bodkin", cmd.Name()}
	flags := cmd.Flags()
	if flags.Lookup(nameFlag) != nil && t.Setting(nameFlag) == nil && t.Name != file.Server && devicePattern.MatchString(t.Name) {
		line = append(line, "--"+nameFlag+"="+t.Name)
	}
	for _, setting := range t.Settings {
		if flags.Lookup(setting.Key) == nil {
			continue
		}
		for _, v := range setting.Values {
			line = append(line, "--"+setting.Key+"="+v.Text)
		}
	}
	if t.Name == file.Server {
		return line
	}
	return append(line, arguments(cmd, t, []string{t.Name})...)
}

// quote writes a command line as a shell takes it.
func quote(line []string) string {
	quoted := make([]string, len(line))
	for i, word := range line {
		quoted[i] = word
		if word == "" || strings.ContainsFunc(word, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=./:@,+%", r))
		}) {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func sayJSON(cmd *cobra.Command, v any) error {
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (s *Set) listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Say which profiles there are",
		Args:  words(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := s.Load(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				list := []Description{}
				for _, t := range f.Tables {
					list = append(list, s.describe(f, t))
				}
				return sayJSON(cmd, list)
			}
			if len(f.Tables) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "no profiles: there is none in %s; see `bodkin help profile`\n", f.Name)
				return nil
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, t := range f.Tables {
				to, what := strings.Join(t.Texts(targetKey), " "), strings.Join(t.Texts(routesKey), " ")
				if t.Name == file.Server {
					to, what = "the server's part", strings.Join(t.Texts("listen"), " ")
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", t.Name, printable(to), printable(what))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func (s *Set) showCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Say what a profile stands for: the same command without it",
		Args:  words(cobra.ExactArgs(1), "the name of a profile"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, t, err := s.Find(cmd, args[0])
			if err != nil {
				return err
			}
			d := s.describe(f, t)
			if asJSON {
				return sayJSON(cmd, d)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "# %s:%d\n%s\n", printable(d.File), d.At.Line, printable(quote(d.Command)))
			return nil
		},
		ValidArgsFunction: s.Complete,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// Find loads the file and returns its table of that name, which the command it is for
// would run with.
func (s *Set) Find(cmd *cobra.Command, name string) (*file.File, *file.Table, error) {
	f, err := s.Load(cmd)
	if err != nil {
		return nil, nil, err
	}
	t := f.Table(name)
	if t == nil {
		e := &config.Error{Reason: fmt.Sprintf("%s has no profile %q", f.Name, name), Hint: "see `bodkin profile list`"}
		if near := file.Nearest(name, f.Profiles()); near != "" {
			e.Hint = "did you mean " + near + "?"
		}
		return nil, nil, e
	}
	return f, t, judge(f, t, s.user(name))
}

// A Verdict is what `bodkin profile check --json` prints.
type Verdict struct {
	File     string    `json:"file"`
	Profiles []string  `json:"profiles"`
	Server   bool      `json:"server"` // it has a part of the server's
	Problems []Problem `json:"problems"`
}

// A Problem is something wrong with a file.
type Problem struct {
	file.Position
	Reason string `json:"reason"`
}

func (s *Set) checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the file of profiles",
		Args:  words(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, problems := s.check(cmd)
			if asJSON {
				if err := sayJSON(cmd, v); err != nil {
					return err
				}
			} else if len(problems) == 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is right: %s\n", printable(v.File), v.parts())
			}
			return joined(cmd, problems)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
