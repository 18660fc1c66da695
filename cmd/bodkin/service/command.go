// Package service is `bodkin service`: units of systemd's for profiles and for the
// server.
//
//	command.go   install, uninstall, status
//	client.go    the unit of a profile
//	server.go    those of the server
//	unit.go      what a unit's text looks like
//	manager.go   the systemd, and the files that it reads
//	account.go   for whom
//
// A unit says `bodkin up NAME` and no more: what that does stands in the file of
// profiles, and a change of that needs no new unit.
package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/profile"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	file "github.com/bodkin-net/bodkin/config/profile"
)

// Command is `bodkin service`. server may be nil: then there is none to install.
func Command(profiles *profile.Set, server Server) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Have systemd keep a profile's tunnel, or the server, up",
		Long: `Write a unit of systemd's that runs ` + "`bodkin up NAME`" + ` for a profile, or ` + "`bodkin serve`" + ` for
the name serve, starts it when the machine does, and again when it fails.

--system is a unit of the machine's, and needs root; --user is one of your own systemd,
which runs while you are logged in, or always after ` + "`loginctl enable-linger`" + `. Root's are
the machine's unless said otherwise, all others' their own.

Nobody is there to be asked: ssh must log in with a key that needs no passphrase, and a
password must come from a file or a command. A profile whose near side is tun makes a
device and routes, for which root is needed. A unit of the machine's has that: then only
the helper is root, and ssh and all the rest are the account's (--as, or whoever called
sudo). A unit of your own has it only if sudo asks for no password.`,
		Example: `  sudo bodkin service install work --now
  bodkin service install --user proxy --now
  bodkin service install work --plan
  bodkin service status work
  sudo bodkin service uninstall work`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	s := &services{profiles: profiles, server: server, manager: newManager}
	cmd.AddCommand(s.installCommand(), s.uninstallCommand(), s.statusCommand())
	return cmd
}

// services is `bodkin service`.
type services struct {
	profiles *profile.Set
	server   Server
	manager  func(user bool) (*manager, error)
}

// managerOf is the systemd that is meant.
func (s *services) managerOf(sc scope) (*manager, error) {
	user, err := sc.isUser()
	if err != nil {
		return nil, err
	}
	return s.manager(user)
}

// name wants the name of a profile.
func name(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || !file.IsName(args[0]) {
		return &config.Error{Reason: fmt.Sprintf("%s wants the name of a profile, or serve", cmd.CommandPath()), Hint: "see `bodkin profile list`"}
	}
	return nil
}

// A scope is --user or --system.
type scope struct{ user, system bool }

func (s *scope) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.user, "user", false, "a unit of your own systemd")
	cmd.Flags().BoolVar(&s.system, "system", false, "a unit of the machine's systemd")
}

// isUser reports whether it is a unit of the user's own: root's are the machine's unless
// said otherwise.
func (s *scope) isUser() (bool, error) {
	if s.user && s.system {
		return false, &config.Error{Reason: "--user and --system contradict each other", Hint: "leave one of them out"}
	}
	return s.user || !s.system && os.Geteuid() != 0, nil
}

func (s *services) installCommand() *cobra.Command {
	var sc scope
	var now, plan bool
	var as string
	cmd := &cobra.Command{
		Use:   "install NAME",
		Short: "Write the unit of a profile, and have it started when the machine is",
		Args:  name,
		RunE: func(cmd *cobra.Command, args []string) error {
			user, err := sc.isUser()
			if err != nil {
				return err
			}
			p, err := place(user, as)
			if err != nil {
				return err
			}
			units, notes, err := s.units(cmd, args[0], p)
			if err != nil {
				return err
			}
			m, err := s.manager(p.User)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if plan {
				for _, u := range units {
					fmt.Fprintf(out, "# %s\n%s", m.path(u.File), u.whole(args[0]))
				}
				return nil
			}
			if !m.here {
				return report.WithHint(errors.New("service: no systemd runs this machine"), s.instead(cmd, args[0], p))
			}
			for _, text := range notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "bodkin: note: %s\n", text)
			}
			return install(cmd, m, args[0], units, now)
		},
		ValidArgsFunction: s.complete,
	}
	sc.flags(cmd)
	profile.Flag(cmd.Flags())
	cmd.Flags().BoolVar(&now, "now", false, "start it, too")
	cmd.Flags().BoolVar(&plan, "plan", false, "print the unit, and do nothing")
	cmd.Flags().StringVar(&as, "as", "", "the `USER` whose profile, ssh and keys a unit of the machine's has (default: whoever called sudo, or root)")
	return cmd
}

// install writes units, and has them started.
func install(cmd *cobra.Command, m *manager, profile string, units []Unit, now bool) error {
	out := cmd.OutOrStdout()
	for _, u := range units {
		if _, err := m.ours(u.File); err != nil { // before anything is written
			return err
		}
	}
	for _, u := range units {
		if err := m.write(u, profile); err != nil {
			if errors.Is(err, os.ErrPermission) {
				return report.WithHint(err, "run it as root, by sudo, or with --user for a unit of your own")
			}
			return err
		}
		fmt.Fprintf(out, "wrote %s\n", m.path(u.File))
	}
	commands := [][]string{{"daemon-reload"}}
	var names []string
	for _, u := range units {
		names = append(names, u.File)
	}
	commands = append(commands, append([]string{"enable"}, names...))
	if now { // and not `enable --now`, which leaves a running one as it was; a socket is none while its service runs
		commands = append(commands, append([]string{"stop"}, names...), append([]string{"start"}, names...))
	}
	for _, c := range commands {
		fmt.Fprintln(out, m.command(c...))
		if _, err := m.run(cmd.Context(), c...); err != nil {
			return report.WithHint(err, "see `"+m.command("status", unitName(profile))+"` and `"+journal(m, profile)+"`")
		}
	}
	return nil
}

// journal is how a service's words are read.
func journal(m *manager, profile string) string {
	if m.user {
		return "journalctl --user -u " + unitName(profile)
	}
	return "journalctl -u " + unitName(profile)
}

// units are those of a profile or of the server, and what its user should know.
func (s *services) units(cmd *cobra.Command, name string, p Place) ([]Unit, []string, error) {
	path, _, err := profile.Path(cmd)
	if err != nil {
		return nil, nil, err
	}
	p.Config = path
	if name == file.Server {
		return s.serverUnits(cmd, p)
	}
	_, t, err := s.profiles.Find(cmd, name)
	if err != nil {
		return nil, nil, err
	}
	tun, err := tunnelOf(t)
	if err != nil {
		return nil, nil, err
	}
	u, err := tun.unit(p)
	return []Unit{u}, tun.notes(p, t), err
}

// serverUnits are those of the server.
func (s *services) serverUnits(cmd *cobra.Command, p Place) ([]Unit, []string, error) {
	if s.server == nil {
		return nil, nil, errors.New("service: this bodkin has no server")
	}
	f, err := s.profiles.Load(cmd)
	if err != nil {
		return nil, nil, err
	}
	t := f.Table(file.Server)
	if t != nil {
		if _, t, err = s.profiles.Find(cmd, file.Server); err != nil {
			return nil, nil, err
		}
	}
	units, err := s.server.units(p, t)
	return units, nil, err
}

// instead is what to do without systemd.
func (s *services) instead(cmd *cobra.Command, name string, p Place) string {
	p.Config, _, _ = profile.Path(cmd)
	if name == file.Server {
		return "a line for `crontab -e` does the same: @reboot while :; do " + shellWord(p.Binary) + " serve; sleep 30; done"
	}
	return "a line for `crontab -e` does the same: " + tunnel{profile: name}.crontab(p)
}

func (s *services) uninstallCommand() *cobra.Command {
	var sc scope
	cmd := &cobra.Command{
		Use:   "uninstall NAME",
		Short: "Stop a service and take its unit away",
		Args:  name,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := s.managerOf(sc)
			if err != nil {
				return err
			}
			found, err := s.installed(m, args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			for _, unit := range found {
				if m.here {
					fmt.Fprintln(out, m.command("disable", "--now", unit))
					if _, err := m.run(cmd.Context(), "disable", "--now", unit); err != nil {
						return err
					}
				}
				if err := os.Remove(m.path(unit)); err != nil {
					return fmt.Errorf("service: %w", err)
				}
				fmt.Fprintf(out, "removed %s\n", m.path(unit))
			}
			if m.here {
				_, err = m.run(cmd.Context(), "daemon-reload")
			}
			return err
		},
		ValidArgsFunction: s.complete,
	}
	sc.flags(cmd)
	return cmd
}

// installed are the units of a name that were made here; there is one at least. The
// server has a socket beside its service.
func (s *services) installed(m *manager, profile string) ([]string, error) {
	candidates := []string{unitName(profile)}
	if profile == file.Server {
		candidates = append(candidates, serverSocket)
	}
	var found []string
	for _, unit := range candidates {
		ours, err := m.ours(unit)
		if err != nil {
			return nil, err
		}
		if ours {
			found = append(found, unit)
		}
	}
	if len(found) == 0 {
		hint := "with --user or --system it may be there"
		return nil, report.WithHint(fmt.Errorf("service: there is no %s", m.path(unitName(profile))), hint)
	}
	return found, nil
}

// A State is what `bodkin service status --json` prints.
type State struct {
	Name     string `json:"name"`
	Unit     string `json:"unit"`   // its file
	Active   string `json:"active"` // as systemd has it: "active", "activating", "failed", "inactive"
	Sub      string `json:"sub"`
	Enabled  string `json:"enabled"` // "enabled": it is started when the machine is
	Text     string `json:"text,omitempty"`
	Restarts string `json:"restarts"`
	Exit     string `json:"exit"` // the last exit status: bodkin help up says which is what
}

func (s *services) statusCommand() *cobra.Command {
	var sc scope
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Say how a service fares",
		Args:  name,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := s.managerOf(sc)
			if err != nil {
				return err
			}
			if _, err := s.installed(m, args[0]); err != nil {
				return err
			}
			st := State{Name: args[0], Unit: m.path(unitName(args[0]))}
			if !m.here {
				return report.WithHint(errors.New("service: no systemd runs this machine"), "the unit is there: "+st.Unit)
			}
			text, err := m.run(cmd.Context(), "show", "-p", "ActiveState,SubState,UnitFileState,StatusText,NRestarts,ExecMainStatus", unitName(args[0]))
			if err != nil {
				return err
			}
			st.read(text)
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(st)
			}
			st.say(cmd.OutOrStdout(), journal(m, args[0]))
			return nil
		},
		ValidArgsFunction: s.complete,
	}
	sc.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// read takes what `systemctl show` prints.
func (st *State) read(text string) {
	fields := map[string]*string{
		"ActiveState": &st.Active, "SubState": &st.Sub, "UnitFileState": &st.Enabled,
		"StatusText": &st.Text, "NRestarts": &st.Restarts, "ExecMainStatus": &st.Exit,
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, "=")
		if f := fields[key]; f != nil {
			*f = carrier.Printable(value)
		}
	}
}

// say says it for people.
func (st *State) say(w io.Writer, journal string) {
	fmt.Fprintf(w, "%s: %s (%s), %s", st.Name, st.Active, st.Sub, st.Enabled)
	if st.Text != "" {
		fmt.Fprintf(w, ": %s", st.Text)
	}
	fmt.Fprintln(w)
	if st.Restarts != "0" && st.Restarts != "" {
		fmt.Fprintf(w, "started again %s times; its last exit status is %s\n", st.Restarts, st.Exit)
	}
	fmt.Fprintf(w, "unit %s, words: %s\n", st.Unit, journal)
}

// complete offers the profiles, and the server.
func (s *services) complete(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	names, d := s.profiles.Complete(cmd, args, prefix)
	if len(args) == 0 && s.server != nil {
		names = append(names, file.Server)
	}
	return names, d
}
