package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
)

// row is one of target/bench.json, in the fields of rde-bench.
type row struct {
	Name       string      `json:"name"`
	Ours       *float64    `json:"ours"`
	Peer       *float64    `json:"peer"`
	PeerName   *string     `json:"peer_name"`
	Ratio      *float64    `json:"ratio"`
	Unit       string      `json:"unit"`
	Goal       string      `json:"goal"`
	Met        *bool       `json:"met"`
	Note       *string     `json:"note"`
	Failed     bool        `json:"failed"`
	UCX        *string     `json:"ucx"`
	Machine    string      `json:"machine"`
	OursRounds []float64   `json:"ours_rounds"`
	PeerRounds []float64   `json:"peer_rounds"`
	Candidates []candidate `json:"candidates"`
}

type candidate struct {
	Name  string   `json:"name"`
	Value *float64 `json:"value"`
	Note  *string  `json:"note"`
}

func some[T any](value T) *T { return &value }

// compare makes a row of the first side beside the best of the others; the ratio is the median of those of adjacent runs.
func compare(name, unit string, sides []*side, what func(sample) float64, more bool, times float64) row {
	ours, peer := sides[0], best(sides[1:], what, more)
	r := row{Name: name, Unit: unit, Machine: machine(), OursRounds: ours.of(what), PeerRounds: peer.of(what)}
	var ratios []float64
	for i := range r.OursRounds {
		ratios = append(ratios, r.OursRounds[i]/r.PeerRounds[i])
	}
	ratio := median(ratios)
	r.Ours, r.Peer, r.PeerName, r.Ratio = some(median(r.OursRounds)), some(median(r.PeerRounds)), some(peer.name), some(ratio)
	if more {
		r.Goal, r.Met = fmt.Sprintf("≥ %.3g × peer", times), some(ratio >= times)
	} else {
		r.Goal, r.Met = fmt.Sprintf("≤ %.3g × peer", times), some(ratio <= times)
	}
	for _, s := range sides[1:] {
		r.Candidates = append(r.Candidates, candidate{Name: s.name, Value: some(median(s.of(what)))})
	}
	return r
}

// difference makes a row of what ours takes more than the peer, in nanoseconds.
func difference(name string, ours, peer []float64, most float64) row {
	r := absolute(name, "ns", nil, most)
	for i := range ours {
		r.OursRounds = append(r.OursRounds, ours[i]-peer[i])
	}
	r.PeerRounds, r.Peer, r.PeerName = peer, some(median(peer)), some("C, its own time")
	r.Ours = some(median(r.OursRounds))
	r.Met = some(*r.Ours <= most)
	return r
}

// absolute makes a row without a peer.
func absolute(name, unit string, ours []float64, most float64) row {
	r := row{Name: name, Unit: unit, Goal: fmt.Sprintf("≤ %g %s", most, unit), Machine: machine(), OursRounds: ours,
		PeerRounds: []float64{}, Candidates: []candidate{}}
	if len(ours) > 0 {
		r.Ours = some(median(ours))
		r.Met = some(*r.Ours <= most)
	}
	return r
}

var machineText string

// machine says where this is.
func machine() string {
	if machineText != "" {
		return machineText
	}
	read := func(path string) string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
	model, cores := "", 0
	for _, line := range strings.Split(read("/proc/cpuinfo"), "\n") {
		if name, value, found := strings.Cut(line, ":"); found && strings.HasPrefix(name, "model name") {
			model, cores = strings.TrimSpace(value), cores+1
		}
	}
	load, _, _ := strings.Cut(read("/proc/loadavg"), " ")
	machineText = fmt.Sprintf("%s, %d cores, Linux %s, load %s before the run", model, cores,
		strings.TrimSpace(read("/proc/sys/kernel/osrelease")), load)
	return machineText
}

// short has three significant digits and no exponent.
func short(value *float64) string {
	if value == nil {
		return "–"
	}
	decimals := 2
	if *value != 0 {
		decimals = min(max(2-int(math.Floor(math.Log10(math.Abs(*value)))), 0), 6)
	}
	return fmt.Sprintf("%.*f", decimals, *value)
}

func (r *row) cells() []string {
	verdict, peer := "not run", ""
	if r.Met != nil {
		verdict = map[bool]string{true: "met", false: "MISSED"}[*r.Met]
	}
	if r.PeerName != nil {
		peer = *r.PeerName
	}
	return []string{r.Name, short(r.Ours), short(r.Peer), r.Unit, short(r.Ratio), r.Goal, verdict, peer}
}

func show(rows []row) {
	for i := range rows {
		c := rows[i].cells()
		fmt.Printf("%-70s %10s %10s %-5s %8s  %-16s %-7s %s\n", c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7])
	}
}

// load reads bench.json as it is; a file that is not there has no rows.
func load(path string) (all []json.RawMessage, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	return all, err
}

func nameOf(raw json.RawMessage) string {
	var r struct {
		Name string `json:"name"`
	}
	json.Unmarshal(raw, &r)
	return r.Name
}

// save puts rows into bench.json, in the places of those of the same name.
func save(path string, rows []row) error {
	all, err := load(path)
	if err != nil {
		return err
	}
	for _, r := range rows {
		raw, err := json.Marshal(r)
		if err != nil {
			return err
		}
		found := false
		for i := range all {
			if nameOf(all[i]) == r.Name {
				all[i], found = raw, true
			}
		}
		if !found {
			all = append(all, raw)
		}
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

const (
	beginMark = "<!-- bench-seaweedfs:begin (written by `make -C benches seaweedfs-docs`; do not edit) -->"
	endMark   = "<!-- bench-seaweedfs:end -->"
)

// docs puts the rows of bench.json into a page, between its marks.
func docs(path, page string) error {
	all, err := load(path)
	if err != nil {
		return err
	}
	table := "| what | ours | theirs | unit | ratio | goal | | peer |\n|---|---|---|---|---|---|---|---|\n"
	at, others := "not run yet", ""
	for _, raw := range all {
		var r row
		if !strings.HasPrefix(nameOf(raw), "seaweedfs ") || json.Unmarshal(raw, &r) != nil {
			continue
		}
		at = r.Machine
		table += "| " + strings.Join(r.cells(), " | ") + " |\n"
		for _, c := range r.Candidates {
			others += fmt.Sprintf("| %s | %s | %s %s |\n", r.Name, c.Name, short(c.Value), r.Unit)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !found || !ended {
		return errors.New("the page has no marks for the table")
	}
	made := fmt.Sprintf("%s%s\n\nMeasured on: %s.\n\n%s\nEvery client of HTTP that was tried, medians:\n\n| what | client | |\n|---|---|---|\n%s\n%s%s",
		before, beginMark, at, table, others, endMark, after)
	return os.WriteFile(page, []byte(made), 0o644)
}
