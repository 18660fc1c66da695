package pppd

import "slices"

// nearest returns the option that text is most like, or nothing if none is much
// like it: as many letters may differ as a third of them.
func nearest(text string) string {
	best, distance := "", min(len(text)/3, 3)+1
	if len(text) > 40 {
		return ""
	}
	for i := range table {
		o := &table[i]
		if o.way == refused {
			continue
		}
		if d := edits(text, o.name); d < distance {
			best, distance = o.name, d
		}
	}
	return best
}

// edits counts the least number of letters to add, drop or change that turn a
// into b (Levenshtein 1966).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
