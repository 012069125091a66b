// Package admin is the operator's face, /admin/v1: lists of what is recorded,
// and the few things that an operator does by hand.
//
// Lists are paged by key: an answer has "items" and, where there may be more,
// "next", to be sent back as "after". Nothing here ever shows a credential, a
// parameter or an account's material. The shapes are promised in /openapi.json.
package admin
