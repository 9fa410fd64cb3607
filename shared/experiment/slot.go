package experiment

import (
	"crypto/sha256"
	"encoding/binary"
)

// Slots is the number of slots. A slot is a hundredth of a percent of all units.
const Slots = 10_000

// Slot returns the slot of a unit, from 0 to Slots - 1: the first 8 bytes of SHA-256 over the salt, a zero byte and the
// unit, as a big-endian number, modulo Slots. It is the same on every machine and in every version. With one salt, units are spread
// evenly over the slots. With two salts, a unit's slots are independent. For example:
//
//	Slot("", "")                    3192
//	Slot("likes", "gophers")        9823
//	Slot("engagement", "gophers")   8368
//
// Slot does not allocate if salt and unit have fewer than 128 bytes together.
func Slot(salt, unit string) int { return slotOf("", salt, unit) }

// LayerSlot returns the slot of a unit in a layer. The layer's experiments divide the units by this slot. Its salt is "layer/" and the
// layer's name, so it is independent of the slots of an experiment whose salt is the layer's name.
func LayerSlot(layer, unit string) int { return slotOf(layerPrefix, layer, unit) }

const layerPrefix = "layer/"

// slotOf takes the salt in two parts, and the unit as a string or as bytes, so that a request need not allocate a string.
func slotOf[U string | []byte](prefix, salt string, unit U) int {
	text := make([]byte, 0, 128)
	text = append(text, prefix...)
	text = append(text, salt...)
	text = append(text, 0)
	text = append(text, unit...)
	sum := sha256.Sum256(text)
	return int(binary.BigEndian.Uint64(sum[:8]) % Slots)
}
