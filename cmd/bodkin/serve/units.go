package serve

import (
	_ "embed"
	"encoding/json"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

//go:embed units/bodkin-serve.service
var serviceUnit string

//go:embed units/bodkin-serve.socket
var socketUnit string

// program stands in the units for the path of bodkin's file.
const program = "/usr/local/bin/bodkin"

// Units returns what systemd needs to run the server, by file name: a service with
// nothing but what it needs, and a socket that gives it the port. program is the path of
// bodkin's file, as it stands in a unit.
func Units(path string) map[string]string {
	return map[string]string{
		"bodkin-serve.service": strings.ReplaceAll(serviceUnit, program, path),
		"bodkin-serve.socket":  socketUnit,
	}
}

func unitsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "units",
		Short: "Print the units with which systemd runs the server",
		Long: `Print the units with which systemd runs the server, as a user of its own that it makes,
without any privilege: the port is systemd's, and handed over. bodkin service install
serve puts them in their place.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := os.Executable()
			if err != nil {
				path = program
			}
			out := cmd.OutOrStdout()
			units := Units(path)
			for _, name := range []string{"bodkin-serve.service", "bodkin-serve.socket"} {
				if _, err := io.WriteString(out, "# /etc/systemd/system/"+name+"\n"+units[name]+"\n"); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
