package experiment

import (
	"crypto/sha256"
	"encoding/binary"
)

// Slots is how many slots a salt has: a slot is a hundredth of a percent of all units.
const Slots = 10_000

// Slot returns the slot of a unit, from 0 to Slots - 1: the first 8 bytes of SHA-256 over the salt, a zero byte and the
// unit, as a big-endian number, modulo Slots. It is the same on every machine and in every version. Units of one salt spread evenly; two salts are independent. For example:
//
//	Slot("", "")                    3192
//	Slot("likes", "gophers")        9823
//	Slot("engagement", "gophers")   8368
//
// It does not allocate where salt and unit have fewer than 128 bytes together.
func Slot(salt, unit string) int { return slotOf("", salt, unit) }

// LayerSlot returns the slot that a unit has in a layer, by which the layer's experiments share the units out. Its salt is
// "layer/" and the layer's name, which keeps it independent of an experiment whose salt is that name.
func LayerSlot(layer, unit string) int { return slotOf(layerPrefix, layer, unit) }

const layerPrefix = "layer/"

// slotOf takes the salt in two parts, and the unit as it is at hand, so that a request makes no string of its own.
func slotOf[U string | []byte](prefix, salt string, unit U) int {
	text := make([]byte, 0, 128)
	text = append(text, prefix...)
	text = append(text, salt...)
	text = append(text, 0)
	text = append(text, unit...)
	sum := sha256.Sum256(text)
	return int(binary.BigEndian.Uint64(sum[:8]) % Slots)
}
