package alert

import (
	"time"

	"golang.org/x/sys/unix"
)

func now() moment {
	return moment{awake: clock(unix.CLOCK_MONOTONIC), whole: clock(unix.CLOCK_BOOTTIME)}
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	unix.ClockGettime(id, &t) // fails for no clock that every kernel has
	return time.Duration(t.Nano())
}
