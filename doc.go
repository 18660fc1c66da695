// Package bodkin is the root of the module and holds no code of its own.
//
// The program is in cmd/bodkin; docs/layers.md says what each directory does
// and which may import which. The tests here keep that page true.
package bodkin
