package pppd

// A Described option is what a list of options says of one.
type Described struct {
	Name string // with its value: "asyncmap HEX"
	Help string
}

// A Group is the options about one thing.
type Group struct {
	Title   string
	Options []Described
}

// Working is how many groups of Describe do something; the rest are ignored, or
// refused.
const Working = int(groupIgnored)

// Describe lists all options: those that do something, in groups, then those that
// are ignored, then those that are refused.
func Describe() []Group {
	list := make([]Group, groups)
	for i, title := range [groups]string{
		"The line", "Frames and LCP", "Addresses", "This machine", "Who is who", "Life", "What is said",
		"Not pppd's", "Ignored, since they do no harm", "Refused",
	} {
		list[i].Title = title
	}
	list[groupLine].Options = []Described{
		{"TTY", "a terminal device, in /dev unless it begins with /"},
		{"SPEED", "its speed in baud"},
	}
	list[groupAddresses].Options = []Described{{"LOCAL:REMOTE", "our address and the peer's; either may be left to the peer"}}
	for i := range table {
		o := &table[i]
		d := Described{Name: o.name, Help: o.help}
		if o.arg != "" {
			d.Name += " " + o.arg
		}
		list[o.group].Options = append(list[o.group].Options, d)
	}
	return list
}
