//go:build !linux

// Package hosttest writes down what a machine's network looks like. Only Linux
// has one that package host can change.
package hosttest
