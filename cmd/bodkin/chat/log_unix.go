//go:build unix

package chat

import "log/syslog"

// openLog opens the system's log, as chat(8) does: facility local2. Without one nothing
// is logged.
func openLog() (put func(line string, failure bool), closeLog func()) {
	w, err := syslog.New(syslog.LOG_LOCAL2|syslog.LOG_INFO, "chat")
	if err != nil {
		return func(string, bool) {}, func() {}
	}
	return func(line string, failure bool) {
		if failure {
			w.Err(line)
		} else {
			w.Info(line)
		}
	}, func() { w.Close() }
}
