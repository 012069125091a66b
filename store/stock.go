package store

import "bindery"

func (t *tx) Stock() bindery.Stock               { return nil }
func (t *tx) Authorities() bindery.Authorities   { return nil }
func (t *tx) Certificates() bindery.Certificates { return nil }
