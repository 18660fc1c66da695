package alert

import (
	"fmt"
	"time"
)

const (
	// leastSleep is from when on clocks that differ mean sleep, and not the moment
	// between reading them.
	leastSleep = time.Second

	// lateness is from when on a tick that comes late means that this process was
	// stopped, or the machine was so busy that connections may have died of it.
	lateness = 3 * time.Second
)

// A moment is the time on two clocks, since whatever beginning.
type moment struct {
	awake time.Duration // stands still while the machine sleeps
	whole time.Duration // does not
}

// since returns what must have happened since a moment one tick ago; empty: nothing.
func (m moment) since(before moment) string {
	awake, whole := m.awake-before.awake, m.whole-before.whole
	switch {
	case whole-awake >= leastSleep:
		return fmt.Sprintf("slept for %.0f s", (whole - awake).Seconds())
	case awake >= tickTime+lateness:
		return fmt.Sprintf("stood still for %.0f s", (awake - tickTime).Seconds())
	}
	return ""
}
