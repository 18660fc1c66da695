package profile

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
)

// A ran is what a command was run with.
type ran struct {
	command       string
	args          []string
	exclude, dns  []string
	name, near    string
	verbose       int
	once          bool
	listen, allow []string
}

// program is a small bodkin with commands that take profiles, and what they ran with.
func program(r *ran) *cobra.Command {
	up := func() *cobra.Command {
		var u ran
		cmd := &cobra.Command{
			Use:  "up TARGET [CIDR...]",
			Args: cobra.MinimumNArgs(1),
			PreRunE: func(_ *cobra.Command, args []string) error {
				for _, p := range append(args[1:len(args):len(args)], u.exclude...) {
					if _, err := config.ParsePrefix(p); err != nil {
						return err
					}
				}
				if u.near == "nat" && len(u.exclude) > 0 {
					return &config.Error{Reason: "-x with --near nat", Hint: "leave it out"}
				}
				_, err := config.ParseTarget(args[0])
				return err
			},
			RunE: func(_ *cobra.Command, args []string) error {
				u.command, u.args = "up", args
				*r = u
				return nil
			},
		}
		f := cmd.Flags()
		f.StringArrayVarP(&u.exclude, "exclude", "x", nil, "")
		f.StringArrayVar(&u.dns, "dns", []string{"auto"}, "")
		f.StringVar(&u.name, "name", "bodkin0", "")
		f.StringVar(&u.near, "near", "tun", "")
		f.CountVarP(&u.verbose, "verbose", "v", "")
		f.BoolVar(&u.once, "once", false, "")
		return cmd
	}
	exec := func() *cobra.Command {
		var e ran
		cmd := &cobra.Command{
			Use: "exec TARGET [CIDR...] -- COMMAND", Args: cobra.MinimumNArgs(2),
			RunE: func(_ *cobra.Command, args []string) error {
				e.command, e.args = "exec", args
				*r = e
				return nil
			},
		}
		cmd.Flags().StringArrayVar(&e.dns, "dns", nil, "")
		cmd.Flags().StringArrayVar(&e.allow, "allow", nil, "")
		return cmd
	}
	serve := func() *cobra.Command {
		var s ran
		cmd := &cobra.Command{
			Use: "serve", Args: cobra.NoArgs,
			RunE: func(_ *cobra.Command, args []string) error {
				s.command, s.args = "serve", args
				*r = s
				return nil
			},
		}
		cmd.Flags().StringArrayVar(&s.listen, "listen", nil, "")
		return cmd
	}
	s := &Set{Clients: []func() *cobra.Command{up, exec}, Server: serve}
	root := &cobra.Command{Use: "bodkin"}
	root.AddCommand(s.Teach(up()), s.Teach(exec()), s.Teach(serve()), s.Command())
	return root
}

// call runs the small bodkin, with profiles as the file of them.
func call(t *testing.T, args ...string) (r ran, out, errs string, status int) {
	t.Helper()
	var o, e bytes.Buffer
	root := program(&r)
	root.SetOut(&o)
	root.SetErr(&e)
	status = report.Execute(context.Background(), root, args)
	return r, o.String(), e.String(), status
}

// profiles makes text the user's file of profiles, and returns its name.
func profiles(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	path := filepath.Join(dir, "bodkin", Name)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// both is one file for both hosts.
const both = `[work]
target = "me@office"
routes = ["10.0.0.0/8", "192.168.7.0/24"]
exclude = ["10.1.0.0/16"]
dns = "corp.example"
verbose = 2
allow = ["host"]

[home]
target = "home.example.org:2222"
name = "attic"
once = true

[serve]
listen = [":443", "unix:/run/bodkin.sock"]
`

// TestTeach: a profile is a command line, and what is on the command line wins.
func TestTeach(t *testing.T) {
	profiles(t, both)
	for _, c := range []struct {
		args string
		want ran
	}{
		{"up work", ran{args: []string{"me@office", "10.0.0.0/8", "192.168.7.0/24"}, exclude: []string{"10.1.0.0/16"}, dns: []string{"corp.example"}, name: "work", near: "tun", verbose: 2}},
		{"up work 10.9.0.0/16", ran{args: []string{"me@office", "10.9.0.0/16"}, exclude: []string{"10.1.0.0/16"}, dns: []string{"corp.example"}, name: "work", near: "tun", verbose: 2}},
		{"up work -x 10.2.0.0/16 --dns off --name mine -v", ran{args: []string{"me@office", "10.0.0.0/8", "192.168.7.0/24"}, exclude: []string{"10.2.0.0/16"}, dns: []string{"off"}, name: "mine", near: "tun", verbose: 1}},
		{"up home --once=false", ran{args: []string{"home.example.org:2222"}, dns: []string{"auto"}, name: "attic", near: "tun"}},
		{"up me@work", ran{args: []string{"me@work"}, dns: []string{"auto"}, name: "bodkin0", near: "tun"}},
		{"up ssh://work", ran{args: []string{"ssh://work"}, dns: []string{"auto"}, name: "bodkin0", near: "tun"}},
		{"up -- work", ran{args: []string{"work"}, dns: []string{"auto"}, name: "bodkin0", near: "tun"}},
		{"up elsewhere 10.0.0.0/8", ran{args: []string{"elsewhere", "10.0.0.0/8"}, dns: []string{"auto"}, name: "bodkin0", near: "tun"}},
		{"up serve", ran{args: []string{"serve"}, dns: []string{"auto"}, name: "bodkin0", near: "tun"}},
		{"exec work -- curl -v http://x", ran{command: "exec", args: []string{"me@office", "10.0.0.0/8", "192.168.7.0/24", "curl", "-v", "http://x"}, dns: []string{"corp.example"}, allow: []string{"host"}}},
		{"exec work 10.9.0.0/16 -- curl", ran{command: "exec", args: []string{"me@office", "10.9.0.0/16", "curl"}, dns: []string{"corp.example"}, allow: []string{"host"}}},
		{"serve", ran{command: "serve", listen: []string{":443", "unix:/run/bodkin.sock"}}},
		{"serve --listen :8443", ran{command: "serve", listen: []string{":8443"}}},
	} {
		if c.want.command == "" {
			c.want.command = "up"
		}
		got, _, errs, status := call(t, strings.Fields(c.args)...)
		if status != 0 || !same(got, c.want) {
			t.Errorf("%s: exit status %d, ran with\n%+v, want\n%+v\n%s", c.args, status, got, c.want, errs)
		}
	}
}

func same(a, b ran) bool {
	return a.command == b.command && slices.Equal(a.args, b.args) && slices.Equal(a.exclude, b.exclude) && slices.Equal(a.dns, b.dns) &&
		a.name == b.name && a.near == b.near && a.verbose == b.verbose && a.once == b.once && slices.Equal(a.listen, b.listen) && slices.Equal(a.allow, b.allow)
}

// TestRefused: what a command refuses in a profile has the place in the file that it is
// about, and nothing runs.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ args, text, want, hint string }{
		{"up work", "[work]\ntarget = 'gw'\nroutes = ['10.0.0.0/8',\n  '10.0.0.1/8']\n", `:4:3: "10.0.0.1/8" has bits beyond its length`, "10.0.0.0/8 is the prefix"},
		{"up work", "[work]\nexclude = ['10.0.0.0/33']\ntarget = 'gw'\n", `:2:12: "10.0.0.0/33" is not a prefix`, "write it as"},
		{"up work", "[work]\ntarget = 'me@-gw'\n", `:2:10: "-gw" is not a host`, "[user@]host"},
		{"up work", "[work]\ntarget = 'gw'\nexclude = '10.0.0.0/8'\nnear = 'nat'\n", ":4:8: -x with --near nat", "leave it out"},
		{"up work", "[work]\nroutes = ['10.0.0.0/8']\n", ":1:2: [work] says no target", "target ="},
		{"up work", "[work]\ntarget = 'gw'\n[home]\ntarget = 'h'\nnaer = 'nat'\n", `:5:1: [home] has no key "naer"`, "near"},
		{"up work", "[work]\ntarget = 'gw'\nverbose = 99999999999\nx = 1\n", `has no key "x"`, ""},
		{"up work", "[work]\ntarget = 'gw'\nhelp = true\n", `has no key "help"`, ""},
		{"up work", "[work]\ntarget = 'gw'\nconfig = '/etc/passwd'\n", `has no key "config"`, ""},
		{"up gw", "[work\n", ":1:6: it is not TOML", ""},
		{"serve", "[serve]\nlisten = 443\n", ":2:10: listen is not a text", "in quotes"},
		{"profile check", "[work]\ntarget = 'gw'\nroutes = ['nowhere']\n[home]\n", ":3:11: \"nowhere\" is not a prefix", "write it as"},
		{"profile check", "[work]\ntarget = 'gw'\nroutes = ['nowhere']\n[home]\n", ":4:2: [home] says no target", ""},
		{"profile show wrok", both, `has no profile "wrok"`, "did you mean work?"},
		{"profile show", both, "wants the name of a profile", ""},
	} {
		path := profiles(t, c.text)
		got, _, errs, status := call(t, strings.Fields(c.args)...)
		want := c.want
		if strings.HasPrefix(want, ":") {
			want = path + want
		}
		if status != report.StatusUsage || got.command != "" || !strings.Contains(errs, want) || !strings.Contains(errs, c.hint) {
			t.Errorf("%s: exit status %d, said\n%swant\n%s\n%s", c.args, status, errs, want, c.hint)
		}
	}
}

// TestOwner: a file that others could have written says nothing, and no file says
// nothing either.
func TestOwner(t *testing.T) {
	path := profiles(t, both)
	for _, mode := range []os.FileMode{0o602, 0o620, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if r, _, errs, status := call(t, "up", "work"); status != 2 || r.command != "" || !strings.Contains(errs, "others may write it") || !strings.Contains(errs, "chmod go-w "+path) {
			t.Errorf("mode %04o: exit status %d: %s", mode, status, errs)
		}
	}
	if _, _, errs, status := call(t, "up", "me@work"); status != 0 {
		t.Errorf("a host that is no profile: %s", errs)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, errs, status := call(t, "up", "work"); status != 0 {
		t.Errorf("one that others may read: %s", errs)
	}
	link := filepath.Join(t.TempDir(), "link.toml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, _, errs, status := call(t, "up", "work", "--config", link); status != 0 {
		t.Errorf("a link to one: %s", errs)
	}
	if _, _, errs, status := call(t, "up", "gw", "--config", link); status != 2 || !strings.Contains(errs, `no profile "gw"`) || !strings.Contains(errs, "ssh://gw") {
		t.Errorf("one that is not in the file that was named: exit status %d: %s", status, errs)
	}
	for _, wrong := range []string{filepath.Dir(path), filepath.Join(t.TempDir(), "nowhere")} {
		if _, _, errs, status := call(t, "up", "work", "--config", wrong); status != 2 {
			t.Errorf("--config %s: exit status %d: %s", wrong, status, errs)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if r, _, errs, status := call(t, "up", "work"); status != 0 || r.args[0] != "work" || r.name != "bodkin0" {
		t.Errorf("without a file: exit status %d, %+v: %s", status, r, errs)
	}
	if r, _, errs, status := call(t, "serve"); status != 0 || r.command != "serve" {
		t.Errorf("without a file: exit status %d: %s", status, errs)
	}
	if _, out, errs, status := call(t, "profile", "list"); status != 0 || out != "" || !strings.Contains(errs, path) {
		t.Errorf("list without a file: exit status %d: %s%s", status, out, errs)
	}
}

// TestCommand is what is printed, for people and for programs.
func TestCommand(t *testing.T) {
	path := profiles(t, both)
	for args, want := range map[string]string{
		"profile list":       "work   me@office              10.0.0.0/8 192.168.7.0/24\nhome   home.example.org:2222  \nserve  the server's part      :443 unix:/run/bodkin.sock\n",
		"profile show work":  "# " + path + ":1\nbodkin up --name=work --exclude=10.1.0.0/16 --dns=corp.example --verbose=2 me@office 10.0.0.0/8 192.168.7.0/24\n",
		"profile show serve": "# " + path + ":14\nbodkin serve --listen=:443 --listen=unix:/run/bodkin.sock\n",
		"profile check":      path + " is right: work, home and [serve]\n",
		"__complete up ":     "work\tme@office\nhome\thome.example.org:2222\n:4\n",
		"__complete up me@":  "work\tme@office\nhome\thome.example.org:2222\n:4\n",
	} {
		if _, out, errs, status := call(t, strings.Split(args, " ")...); status != 0 || out != want {
			t.Errorf("%s: exit status %d, printed\n%q, want\n%q\n%s", args, status, out, want, errs)
		}
	}
	_, out, _, _ := call(t, "profile", "show", "home", "--json")
	var d Description
	if err := json.Unmarshal([]byte(out), &d); err != nil || d.Target != "home.example.org:2222" || d.At.Line != 9 || d.Settings["once"][0] != true || !slices.Equal(d.Command, []string{"bodkin", "up", "--name=attic", "--once=true", "home.example.org:2222"}) {
		t.Errorf("show --json: %v\n%s", err, out)
	}
	profiles(t, "[work]\ntarget='gw'\nroutes=['x']\n")
	_, out, _, status := call(t, "profile", "check", "--json")
	var v Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != 2 || len(v.Problems) != 1 || v.Problems[0].Line != 3 {
		t.Errorf("check --json: exit status %d, %v\n%s", status, err, out)
	}
}

// TestQuote: what is shown of a profile is what a shell takes.
func TestQuote(t *testing.T) {
	got := quote([]string{"bodkin", "up", "--via=cmd:ssh -W %h", "it's", "", "$HOME"})
	if want := `bodkin up '--via=cmd:ssh -W %h' 'it'\''s' '' '$HOME'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
