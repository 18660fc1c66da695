package bodkin_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestNothingSleeps: no sleep stands in for a handshake anywhere on the way to the far
// side, nor in what starts it and runs on it. What waits, waits for something, and a
// timer only bounds that.
func TestNothingSleeps(t *testing.T) {
	files := 0
	for _, dir := range []string{"carrier", "cmd", "link", "tunnel", "endpoint", "pty"} {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || strings.Contains(filepath.Dir(name), "test") {
				return err
			}
			files++
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, at := range sleeps(file) {
				t.Errorf("%v: time.Sleep: what is it that it waits for?", set.Position(at))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Errorf("only %d files were looked at", files)
	}
}

// sleeps returns where a file names time.Sleep, called or not, and by whatever name it
// imports the package.
func sleeps(file *ast.File) (at []token.Pos) {
	name := ""
	for _, i := range file.Imports {
		if path, _ := strconv.Unquote(i.Path.Value); path == "time" {
			if name = path; i.Name != nil {
				name = i.Name.Name
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == name && n.Sel.Name == "Sleep" {
				at = append(at, n.Pos())
			}
		case *ast.Ident:
			if name == "." && n.Name == "Sleep" {
				at = append(at, n.Pos())
			}
		}
		return true
	})
	return at
}

// TestSleeps shows that TestNothingSleeps would find one.
func TestSleeps(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int
	}{
		{`package p; import "time"; func f() { time.Sleep(1); go time.Sleep(2) }`, 2},
		{`package p; import t "time"; var wait = t.Sleep`, 1},
		{`package p; import . "time"; func f() { Sleep(1) }`, 1},
		{`package p; import "time"; func f() { <-time.After(1) }`, 0},
		{`package p; import time "other"; func f() { time.Sleep(1) }`, 0},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "p.go", tt.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(sleeps(file)); got != tt.want {
			t.Errorf("%s: %d found, want %d", tt.text, got, tt.want)
		}
	}
}
