package profile

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	file "github.com/bodkin-net/bodkin/config/profile"
)

// check asks about every table the command that it is for.
func (s *Set) check(cmd *cobra.Command) (Verdict, []error) {
	path, _, _ := Path(cmd)
	v := Verdict{File: path, Profiles: []string{}, Problems: []Problem{}}
	f, err := s.Load(cmd)
	problems := []error{err}
	if err == nil {
		problems = nil
		v.Profiles = append(v.Profiles, f.Profiles()...)
		v.Server = f.Table(file.Server) != nil
		for _, t := range f.Tables {
			if err := judge(f, t, s.user(t.Name)); err != nil {
				problems = append(problems, err)
			}
		}
	}
	for _, err := range problems {
		p := Problem{Reason: err.Error()}
		var e *file.Error
		if errors.As(err, &e) {
			p = Problem{e.At, e.Reason}
		}
		v.Problems = append(v.Problems, p)
	}
	return v, problems
}

// parts says what a file has.
func (v Verdict) parts() string {
	text := "no profiles"
	if n := len(v.Profiles); n > 0 {
		text = strings.Join(v.Profiles, ", ")
	}
	if v.Server {
		text += " and [serve]"
	}
	return text
}

// joined says all problems but the last, which it returns for the program to say.
func joined(cmd *cobra.Command, problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	last := len(problems) - 1
	for _, err := range problems[:last] {
		report.Say(cmd.ErrOrStderr(), err)
	}
	return problems[last]
}

func printable(text string) string { return carrier.Printable(text) }
