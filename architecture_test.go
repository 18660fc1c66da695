package bodkin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bodkin-net/bodkin"

// everything as the only entry of a rule's imports: no restriction.
const everything = "*"

// The import rule of docs/layers.md: arrows point at seams only. The first rule
// whose part matches a package counts; "endpoint/*" matches each directory below
// endpoint, and everything below that. A package may always import what lies in
// its own part, so that a part may be cut up as its author likes.
var rules = []struct {
	part    string
	imports []string
}{
	{"cmd/*", []string{everything}}, // the only place that picks implementations
	{"bench", []string{everything}},
	{"e2e", []string{everything}},
	{".", nil},

	{"config", nil},
	{"host", nil},
	{"lab", nil},
	{"pty", nil},
	{"server", nil}, // is handed functions
	{"splitdns", nil},
	{"trust", nil},

	{"carrier/command", []string{"carrier", "pty"}},
	{"carrier/ssh", []string{"carrier", "carrier/command", "carrier/farhalf"}},
	{"carrier/*", []string{"carrier"}},
	{"carrier", nil},
	{"session", []string{"carrier"}},

	{"link/ppp/hdlc", nil},
	{"link/ppp", []string{"tunnel", "carrier", "link/ppp/hdlc"}},
	{"link/*", []string{"tunnel", "carrier"}},
	{"endpoint/netstack", []string{"tunnel"}},
	{"endpoint/*", []string{"tunnel", "endpoint/netstack"}},
	{"tunnel", nil},
}

// Drawers that collect whatever has no place; internal waits for version 1.
var forbiddenNames = []string{"util", "utils", "common", "helpers", "misc", "types", "share", "shared", "internal"}

// A listed package is what go list says of one package.
type listed struct {
	ImportPath   string
	Doc          string
	Imports      []string
	TestImports  []string // of tests in the package
	XTestImports []string // of tests beside it
}

func (p listed) dir() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

// partOf returns the part that dir belongs to and what that part may import.
// It reports false if no rule knows the directory.
func partOf(dir string) (part string, imports []string, ok bool) {
	for _, r := range rules {
		parent, wild := strings.CutSuffix(r.part, "/*")
		switch {
		case wild:
			rest, below := strings.CutPrefix(dir, parent+"/")
			if !below {
				continue
			}
			name, _, _ := strings.Cut(rest, "/")
			return path.Join(parent, name), r.imports, true
		case within(dir, r.part):
			return r.part, r.imports, true
		}
	}
	return "", nil, false
}

// inPart reports whether dir belongs to part, and to no smaller one inside it.
func inPart(dir, part string) bool {
	p, _, _ := partOf(dir)
	return p == part
}

func within(dir, part string) bool {
	return dir == part || strings.HasPrefix(dir, part+"/")
}

// violations says where pkgs break the import rule, one line each.
//
// Tests put parts together to try them, so a test may import every part but
// the commands: whoever wants those runs them as programs.
func violations(pkgs []listed) []string {
	var found []string
	for _, p := range pkgs {
		dir := p.dir()
		for name := range strings.SplitSeq(dir, "/") {
			if slices.Contains(forbiddenNames, name) {
				found = append(found, fmt.Sprintf("%s: %q is no name for a directory", dir, name))
			}
		}
		part, allowed, ok := partOf(dir)
		if !ok {
			found = append(found, fmt.Sprintf("%s: no rule knows it; add one, and a line in docs/layers.md", dir))
			continue
		}
		if slices.Contains(allowed, everything) {
			continue
		}
		for _, imp := range p.Imports {
			target, ours := strings.CutPrefix(imp, module+"/")
			if ours && !inPart(target, part) && !slices.Contains(allowed, target) {
				found = append(found, fmt.Sprintf("%s imports %s", dir, target))
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			target, ours := strings.CutPrefix(imp, module+"/")
			if ours && (within(target, "cmd") || within(target, "bench") || within(target, "e2e")) {
				found = append(found, fmt.Sprintf("%s's tests import %s", dir, target))
			}
		}
	}
	return found
}

// list runs go list over the module as it is built for goos.
func list(t *testing.T, goos string) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Doc,Imports,TestImports,XTestImports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pkgs []listed
	for dec := json.NewDecoder(out); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list for %s: %v", goos, err)
	}
	return pkgs
}

func TestImportsPointAtSeams(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		pkgs := list(t, goos)
		if len(pkgs) < 3 {
			t.Fatalf("%s: go list found %d packages: the rule was not tried", goos, len(pkgs))
		}
		for _, v := range violations(pkgs) {
			t.Errorf("%s: %s", goos, v)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range list(t, "linux") {
		testsOnly := len(p.Imports) == 0 && len(p.TestImports)+len(p.XTestImports) > 0
		if p.Doc == "" && !testsOnly {
			t.Errorf("%s has no package comment", p.dir())
		}
	}
}

// The rule's own test: each graph breaks it in one way, or not at all.
func TestViolations(t *testing.T) {
	pkg := func(dir string, imports ...string) listed {
		p := listed{ImportPath: path.Join(module, dir), Imports: []string{"fmt", "golang.org/x/sys/unix"}}
		for _, imp := range imports {
			p.Imports = append(p.Imports, module+"/"+imp)
		}
		return p
	}
	tested := func(p listed, imp string) listed {
		p.XTestImports = []string{module + "/" + imp}
		return p
	}
	tests := []struct {
		name string
		pkg  listed
		want string // empty: allowed
	}{
		{"an endpoint may see the packet seam", pkg("endpoint/tun", "tunnel"), ""},
		{"an endpoint knows no other", pkg("endpoint/tun", "endpoint/usernat"), "endpoint/tun imports endpoint/usernat"},
		{"an endpoint may be cut up", pkg("endpoint/usernat/echo", "endpoint/usernat/policy", "tunnel"), ""},
		{"an endpoint's cut-up part stays a part", pkg("endpoint/usernat/echo", "host"), "endpoint/usernat/echo imports host"},
		{"a link joins the two seams", pkg("link/native", "tunnel", "carrier"), ""},
		{"a link knows no carrier", pkg("link/native", "carrier/ssh"), "link/native imports carrier/ssh"},
		{"a link never calls host", pkg("link/native", "host"), "link/native imports host"},
		{"ppp frames by hdlc", pkg("link/ppp", "tunnel", "carrier", "link/ppp/hdlc"), ""},
		{"hdlc imports nothing of ours", pkg("link/ppp/hdlc", "tunnel"), "link/ppp/hdlc imports tunnel"},
		{"a carrier may see its seam", pkg("carrier/tcp", "carrier"), ""},
		{"a carrier knows no packets", pkg("carrier/tcp", "tunnel"), "carrier/tcp imports tunnel"},
		{"ssh is built on command and farhalf", pkg("carrier/ssh", "carrier", "carrier/command", "carrier/farhalf"), ""},
		{"the others are not", pkg("carrier/tcp", "carrier/command"), "carrier/tcp imports carrier/command"},
		{"a seam knows no implementation", pkg("carrier", "carrier/tcp"), "carrier imports carrier/tcp"},
		{"the seams know nothing of each other", pkg("tunnel", "carrier"), "tunnel imports carrier"},
		{"config touches nothing", pkg("config", "host"), "config imports host"},
		{"host stands alone", pkg("host", "tunnel"), "host imports tunnel"},
		{"host's test package is host's", pkg("host/hosttest", "host"), ""},
		{"lab stands alone", pkg("lab", "host"), "lab imports host"},
		{"the command imports everything", pkg("cmd/bodkin", "host", "carrier/ssh", "link/native", "lab"), ""},
		{"no drawers", pkg("carrier/util"), `carrier/util: "util" is no name for a directory`},
		{"no internal before version 1", pkg("internal/x"), `internal/x: "internal" is no name for a directory`},
		{"a stranger needs a rule", pkg("gadget"), "gadget: no rule knows it; add one, and a line in docs/layers.md"},
		{"a test may put parts together", tested(pkg("endpoint/usernat", "tunnel"), "endpoint/tun"), ""},
		{"a test does not import the command", tested(pkg("host"), "cmd/bodkin"), "host's tests import cmd/bodkin"},
	}
	for _, tt := range tests {
		got := violations([]listed{tt.pkg})
		if tt.want == "" && len(got) > 0 {
			t.Errorf("%s: refused: %q", tt.name, got)
		}
		if tt.want != "" && !slices.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
