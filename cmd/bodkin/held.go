package main

import (
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/keeper"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// This file has what `bodkin status` and `bodkin down` say and do, at the far side, of
// far halves that outlive their logins.

// shortID is how much of a session's ID is shown, and leastID how much must be said.
const (
	shortID = 8
	leastID = 4
)

// sayHeld says which far halves there are here.
func sayHeld(w io.Writer) {
	for _, h := range keeper.List() {
		state := "in use"
		if !h.Attached {
			state = fmt.Sprintf("without a connection, held for %s more", h.Left().Round(time.Second))
		}
		whose := ""
		if u, err := user.LookupId(strconv.Itoa(h.UID)); err == nil {
			whose = " of " + u.Username
		}
		fmt.Fprintf(w, "far half%s, session %s, since %s: %s\n", whose, h.ID[:shortID], time.Since(h.Since).Round(time.Second), state)
	}
}

// endHeld ends far halves that are held here: the one that the argument names, or, with
// none, all, where no tunnel is up that could be meant. It reports whether any was meant.
func endHeld(cmd *cobra.Command, args []string) (meant bool, err error) {
	tunnels, _ := tunnels()
	list := keeper.List()
	switch {
	case len(args) == 0 && len(tunnels) > 0:
		return false, nil
	case len(args) > 0:
		if slices.ContainsFunc(tunnels, func(s Status) bool { return s.Name == args[0] }) || len(args[0]) < leastID {
			return false, nil
		}
		list = slices.DeleteFunc(list, func(h keeper.Held) bool { return !strings.HasPrefix(h.ID, args[0]) })
	}
	var failed []error
	for _, h := range list {
		if err := keeper.End(h); err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "the far half of session %s is down\n", h.ID[:shortID])
	}
	return len(list) > 0, report.At(report.FarHalf, errors.Join(failed...), "if its process is stuck, kill it and run `bodkin clean`")
}
