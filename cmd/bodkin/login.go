package main

import (
	"context"
	"errors"
)

func (n *near) login(ctx context.Context, remote string) error { return errors.New("no ssh yet") }
func (n *near) findPins()                                      {}
func (n *near) refine(l layer, err error) error                { return at(l, err, "") }
func passSocket(path string) error                             { return nil }
