package privilege

import (
	"errors"
	"fmt"
	"testing"
)

// TestKinds: one kind of error is not the other, and neither adds to the text.
func TestKinds(t *testing.T) {
	err := fmt.Errorf("%w%w", errors.New("a tunnel of this name is up"), ErrBusy)
	if !errors.Is(err, ErrBusy) || errors.Is(err, ErrSplitDNS) || err.Error() != "a tunnel of this name is up" {
		t.Errorf("%q: busy %v, split %v", err, errors.Is(err, ErrBusy), errors.Is(err, ErrSplitDNS))
	}
}
