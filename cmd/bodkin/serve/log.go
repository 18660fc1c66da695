package serve

import (
	"io"
	"log/slog"
	"os"
	"strings"
)

// newLog makes the log, "text" or "json". A service manager that keeps its own times is
// not told ours in text.
func newLog(format string, out io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(out, nil))
	}
	o := &slog.HandlerOptions{}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(out, o))
}

func joined(list []string) string { return strings.Join(list, ", ") }
