package bindery

import (
	"encoding/binary"
	"slices"
	"strings"
)

const (
	oidCommonName   = "2.5.4.3"
	oidSerialNumber = "2.5.4.5"
	oidEmail        = "1.2.840.113549.1.9.1"
	oidDC           = "0.9.2342.19200300.100.1.25"
)

// oldTypes are the types that the old form has, in its order, by their OIDs and
// by the names that it writes. Between e-mail address and domain components
// that is the order of Go's pkix.Name, turned round.
var oldTypes = []struct{ oid, name string }{
	{oidEmail, "E"},
	{oidSerialNumber, "SERIALNUMBER"},
	{oidCommonName, "CN"},
	{"2.5.4.11", "OU"},
	{"2.5.4.10", "O"},
	{"2.5.4.17", "POSTALCODE"},
	{"2.5.4.9", "STREET"},
	{"2.5.4.7", "L"},
	{"2.5.4.8", "ST"},
	{"2.5.4.6", "C"},
	{oidDC, "DC"},
}

// oldOrders are the orders, as places in oldTypes, in which old forms were
// written: pkix.Name has had another order besides that of today.
var oldOrders = [][]int{
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
	{0, 1, 2, 5, 6, 8, 7, 3, 4, 9, 10},
}

// oldForm is what the old form of a name says: the values of each of oldTypes,
// in their order in the certificate.
type oldForm [11][]string

// oldValues is the old form of a certificate's name. whole is false where it
// drops a value: all but the last common name and serial number, those two when
// empty, every type that is not in oldTypes, and what is no string.
func (d DN) oldValues() (form oldForm, whole bool) {
	whole = true
	for _, r := range d.rdns {
		for _, a := range r {
			i := oldPlace(a.oid)
			if i < 0 || a.der != "" {
				whole = false
				continue
			}
			if oldSingle(a.oid) {
				whole = whole && form[i] == nil && a.text != ""
				form[i] = []string{a.text}
				continue
			}
			form[i] = append(form[i], a.text)
		}
	}
	return form, whole
}

// oldPlace is a type's place in oldTypes, or -1.
func oldPlace(oid string) int {
	return slices.IndexFunc(oldTypes, func(t struct{ oid, name string }) bool { return t.oid == oid })
}

// oldSingle: pkix.Name has one value of this type.
func oldSingle(oid string) bool { return oid == oidCommonName || oid == oidSerialNumber }

// OldForm is the text by which the ARGO Authentication service knew a
// certificate with this name: the e-mail addresses, Go's pkix.Name, the domain
// components; values of one type joined by plus signs, whatever RDNs they came
// from. whole says that nothing was dropped. Where it is false, other
// certificates have the same text, and it must prove nobody.
func (d DN) OldForm() (text string, whole bool) {
	form, whole := d.oldValues()
	return form.text(oldOrders[0]), whole
}

// IsOldForm reports whether a text is the old form of some name to the letter, in one of
// the orders, so that the ARGO Authentication service could find a certificate by it.
func IsOldForm(text string) bool {
	form, ok := readOldForm(text)
	return ok && slices.ContainsFunc(oldOrders, func(order []int) bool { return form.text(order) == text })
}

func (f oldForm) text(order []int) string {
	var middle []string
	for _, i := range order {
		t, values := oldTypes[i], f[i]
		if len(values) == 0 || t.oid == oidEmail || t.oid == oidDC || oldSingle(t.oid) && values[0] == "" {
			continue
		}
		middle = append(middle, joinOld(t.name, values, escapeOld))
	}
	text := strings.Join(middle, ",")
	// These two are written as they are, and with a comma even where nothing else is there.
	if email := f[oldPlace(oidEmail)]; len(email) > 0 {
		text = joinOld("E", email, asIs) + "," + text
	}
	if dc := f[oldPlace(oidDC)]; len(dc) > 0 {
		text += "," + joinOld("DC", dc, asIs)
	}
	return text
}

func joinOld(name string, values []string, escape func(string) string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = name + "=" + escape(v)
	}
	return strings.Join(parts, "+")
}

// escapeOld escapes as pkix.RDNSequence does.
func escapeOld(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if isSpecial(value, i) {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// asIs is the missing escape of the old service.
func asIs(value string) string { return value }

// key is the key of an old form: of the values by type, so that the order across
// types does not matter, while that of the values of one type does.
func (f oldForm) key() string {
	var b []byte
	for _, values := range f {
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, v := range values {
			b = appendText(b, v)
		}
	}
	return hashKey("old", b)
}

// readOldForm reads a text as an old form, if it can be one: each type in one
// place, in an order in which the old service wrote them, and nothing that it dropped.
func readOldForm(text string) (form oldForm, ok bool) {
	text = strings.TrimLeft(text, " ")
	// Where pkix.Name was empty, its comma stood all the same.
	bare := strings.TrimSuffix(strings.TrimPrefix(strings.Replace(text, ",,DC=", ",DC=", 1), ","), ",")
	if bare != text {
		if form, ok := readInOrder(bare, [][]int{{oldPlace(oidEmail), oldPlace(oidDC)}}); ok {
			return form, true
		}
	}
	return readInOrder(text, oldOrders)
}

// readInOrder reads a text whose types stand in one of the orders.
func readInOrder(text string, orders [][]int) (form oldForm, ok bool) {
	rdns, err := parseCommas(text, true)
	if err != nil || len(rdns) == 0 {
		return oldForm{}, false
	}
	var places []int
	for _, r := range slices.Backward(rdns) {
		place := oldPlace(r[0].oid)
		for _, a := range r {
			if place < 0 || a.oid != r[0].oid || a.der != "" || oldSingle(a.oid) && (len(r) > 1 || a.text == "") {
				return oldForm{}, false
			}
			form[place] = append(form[place], a.text)
		}
		places = append(places, place)
	}
	return form, slices.ContainsFunc(orders, func(order []int) bool { return standsIn(order, places) })
}

// standsIn reports whether order has all the places, one after the other, each once.
func standsIn(order, places []int) bool {
	last := -1
	for _, place := range places {
		at := slices.Index(order, place)
		if at <= last {
			return false
		}
		last = at
	}
	return true
}
