package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit in which Linux tells processor time.
const tick = 10 * time.Millisecond

// cpuTime is the processor time that this process and all that it started have
// used: servers, Bindery and the load. On a machine that others use too it says
// more than a rate. Where it cannot be told it is 0.
func cpuTime() time.Duration {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0
	}
	type process struct {
		parent int
		used   time.Duration
	}
	all := make(map[int]process, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		// The name, in parentheses, may hold anything; what follows it are numbers.
		name := bytes.LastIndexByte(text, ')')
		fields := bytes.Fields(text[name+1:])
		if name < 0 || len(fields) < 13 {
			continue
		}
		number := func(i int) int { n, _ := strconv.Atoi(string(fields[i])); return n } // 0 for what is none
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		all[pid] = process{parent: number(1), used: time.Duration(number(11)+number(12)) * tick}
	}
	self := os.Getpid()
	var sum time.Duration
	for pid, p := range all {
		for up := pid; up != 0; up = all[up].parent {
			if up == self {
				sum += p.used
				break
			}
		}
	}
	return sum
}
