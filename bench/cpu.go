package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit in which Linux tells processor time.
const tick = 10 * time.Millisecond

// cpuTimes is the processor time that this process and all that it started have
// used, by the name of the program: servers, Bindery and the load. On a machine
// that others use too it says more than a rate. Where it cannot be told it is empty.
type cpuTimes map[string]time.Duration

func (c cpuTimes) sum() (all time.Duration) {
	for _, used := range c {
		all += used
	}
	return all
}

// since is what was used after an earlier moment.
func (c cpuTimes) since(before cpuTimes) cpuTimes {
	out := cpuTimes{}
	for name, used := range c {
		out[name] = used - before[name]
	}
	return out
}

// each is what one of n calls took, by program, as text.
func (c cpuTimes) each(n int) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if ms := c[name].Seconds() * 1000 / float64(max(n, 1)); ms >= 0.005 {
			out = append(out, fmt.Sprintf("%s %.2f", name, ms))
		}
	}
	return strings.Join(out, ", ")
}

func cpuTime() cpuTimes {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	type process struct {
		parent int
		name   string
		used   time.Duration
	}
	all := make(map[int]process, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		// The name, in parentheses, may hold anything; what follows it are numbers.
		open, name := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		fields := bytes.Fields(text[name+1:])
		if open < 0 || name < open || len(fields) < 13 {
			continue
		}
		number := func(i int) int { n, _ := strconv.Atoi(string(fields[i])); return n } // 0 for what is none
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		all[pid] = process{parent: number(1), name: string(text[open+1 : name]), used: time.Duration(number(11)+number(12)) * tick}
	}
	self := os.Getpid()
	out := cpuTimes{}
	for pid, p := range all {
		for up := pid; up != 0; up = all[up].parent {
			if up == self {
				out[p.name] += p.used
				break
			}
		}
	}
	return out
}

// cpuEach is what one call took in some windows, by program.
func cpuEach(rounds []round, of func(round) window) string {
	all, done := cpuTimes{}, 0
	for _, r := range rounds {
		w := of(r)
		done += w.done
		for name, used := range w.cpu {
			all[name] += used
		}
	}
	return all.each(done)
}
