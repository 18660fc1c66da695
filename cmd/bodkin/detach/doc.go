// Package detach lets a command return to the shell as soon as what it started is up.
//
// A Go program cannot fork. So it runs itself once more, with the same arguments and a
// pipe on which the copy says that it is ready; only then does the copy leave the
// terminal.
package detach
