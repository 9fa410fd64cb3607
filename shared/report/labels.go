package report

import (
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const (
	labelGap  vg.Length = 3 // between a line and its label
	labelStep vg.Length = 6 // between two points at which a label may be
	labelRoom vg.Length = 8 // between two labels
	// labelSlack is how much wider a browser's letters may be than those that are measured here.
	labelSlack vg.Length = 1.2
)

// label names a line. It is written next to a point of the line, if possible one of the first points.
type label struct {
	words string
	line  plotter.XYs
}

// labels writes labels into a plot, in this order. A label does not overlap the labels before it and the edges of the plot, and
// crosses as few of the lines as possible.
type labels struct {
	all   []label
	lines []plotter.XYs
	style draw.TextStyle
}

// Plot implements plot.Plotter. It runs when the plot's scales are known.
func (l *labels) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	drawn := func(line plotter.XYs) (points []vg.Point) {
		for _, at := range line {
			points = append(points, vg.Point{X: x(at.X), Y: y(at.Y)})
		}
		return points
	}
	var lines [][]vg.Point
	for _, line := range l.lines {
		lines = append(lines, drawn(line))
	}
	style := l.style
	style.XAlign, style.YAlign = draw.XLeft, draw.YBottom
	var taken []vg.Rectangle
	for _, one := range l.all {
		letters := style.Rectangle(one.words)
		size := letters.Size()
		size.X *= labelSlack
		best, least := vg.Rectangle{}, math.MaxInt
		for _, box := range boxesAlong(drawn(one.line), size) {
			if cost := labelCost(box, c.Rectangle, taken, lines); cost < least {
				best, least = box, cost
			}
			if least == 0 {
				break
			}
		}
		if least < math.MaxInt {
			taken = append(taken, best)
			c.FillText(style, best.Min.Sub(letters.Min), one.words)
		}
	}
}

// boxesAlong returns boxes of a size next to the points of a line, and next to points between them.
func boxesAlong(line []vg.Point, size vg.Point) (boxes []vg.Rectangle) {
	beside := func(at vg.Point) {
		left, right := at.X-labelGap-size.X, at.X+labelGap
		for _, y := range []vg.Length{at.Y + labelGap, at.Y - labelGap - size.Y, at.Y - size.Y/2} {
			for _, x := range []vg.Length{right, at.X - size.X/2, left} {
				corner := vg.Point{X: x, Y: y}
				boxes = append(boxes, vg.Rectangle{Min: corner, Max: corner.Add(size)})
			}
		}
	}
	for i, to := range line {
		if i > 0 {
			from := line[i-1]
			way := to.Sub(from)
			steps := math.Ceil(math.Max(math.Abs(float64(way.X)), math.Abs(float64(way.Y))) / float64(labelStep))
			for n := 1.; n < steps; n++ {
				beside(from.Add(way.Scale(vg.Length(n / steps))))
			}
		}
		beside(to)
	}
	return boxes
}

// labelCost is 0 if a label in the box covers nothing. To cross a line is better than to overlap a label or the plot's edges.
func labelCost(box, plot vg.Rectangle, taken []vg.Rectangle, lines [][]vg.Point) (cost int) {
	const overlaps = 1000
	if box.Min.X < plot.Min.X || box.Max.X > plot.Max.X || box.Min.Y < plot.Min.Y || box.Max.Y > plot.Max.Y {
		cost += overlaps
	}
	for _, other := range taken {
		if box.Min.X < other.Max.X+labelRoom && other.Min.X < box.Max.X+labelRoom && box.Min.Y < other.Max.Y && other.Min.Y < box.Max.Y {
			cost += overlaps
		}
	}
	for _, line := range lines {
		for i, to := range line {
			if crosses(box, line[max(i-1, 0)], to) {
				cost++
				break
			}
		}
	}
	return cost
}

// crosses reports whether a part of the straight line between two points is in the box (the algorithm of Liang and Barsky).
func crosses(box vg.Rectangle, from, to vg.Point) bool {
	first, last := 0., 1. // the part that is in the box
	for _, axis := range [][4]vg.Length{{from.X, to.X, box.Min.X, box.Max.X}, {from.Y, to.Y, box.Min.Y, box.Max.Y}} {
		at, way, low, high := float64(axis[0]), float64(axis[1]-axis[0]), float64(axis[2]), float64(axis[3])
		if way == 0 {
			if at < low || at > high {
				return false
			}
			continue
		}
		enter, leave := (low-at)/way, (high-at)/way
		first, last = max(first, min(enter, leave)), min(last, max(enter, leave))
	}
	return first <= last
}
