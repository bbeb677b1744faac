package logpattern

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// templatesOf are the templates of lines after the last, without doubles.
func templatesOf(m *Miner, lines []string) (out []string) {
	ids := make([]uint64, len(lines))
	for i, l := range lines {
		ids[i] = m.AddContent(l, Unknown).ID
	}
	for _, id := range ids {
		if text := m.Template(m.Resolve(id)); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

func TestAValueMayBeSeveralWords(t *testing.T) {
	for name, c := range map[string]struct{ lines, want []string }{
		"a name of three words beside an address": {
			[]string{"lease of 10.0.0.1 renewed via eth0", "lease of 10.0.0.7 iPhone von Peter renewed via eth1"},
			[]string{"lease of <*> renewed via <*>"},
		},
		"a name of two words where a number was": {
			[]string{"the machine vm7 is reset by its guest", "the machine SQL Prod is reset by its guest"},
			[]string{"the machine <*> is reset by its guest"},
		},
		"five phrases of any kind": {
			[]string{
				"stock of tea pots is below the threshold", "stock of filter papers is below the threshold", "stock of big milk jugs is below the threshold",
				"stock of cups is below the threshold", "stock of spoons and forks is below the threshold",
			},
			[]string{"stock of <*> is below the threshold"},
		},
		"two phrases are two statements": {
			[]string{"the job has been started by hand today", "the job was cancelled by hand today"},
			[]string{"the job has been started by hand today", "the job was cancelled by hand today"},
		},
		"lower case words and a value of their own say something": {
			[]string{"password for bob2 refused from port 7", "password for invalid user eve3 refused from port 7", "password for invalid user x1 refused from port 9"},
			[]string{"password for <*> refused from port <*>", "password for invalid user <*> refused from port <*>"},
		},
		"what ends a sentence is no name in it": {
			[]string{"the connection to 10.0.0.1", "the connection to 10.0.0.1 Reset by Peer"},
			[]string{"the connection to <*>", "the connection to <*> Reset by Peer"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := templatesOf(New(Config{}), c.lines); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A name that was found to be a value is one in a line that has two of them.
func TestALineMayHaveSeveralKnownNames(t *testing.T) {
	m := New(Config{})
	for _, word := range []string{"anna", "bob", "carla", "dora"} {
		m.AddContent("session opened for user "+word, Unknown)
		m.AddContent("mail was sent to host "+word, Unknown)
	}
	m.AddContent("order 17 of k7 goes to k9 by train", Unknown)
	got := m.AddContent("order 18 of anna goes to carla by train", Unknown)
	if text := m.Template(got.ID); text != "order <*> of <*> goes to <*> by train" || got.New {
		t.Errorf("got %q, new: %v", text, got.New)
	}
}

func TestAWordIsAValueWhereTheSameSentenceHadOne(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		same  bool
	}{
		"a word instead of a number": {[]string{"volume vol7 is nearly full now", "volume archive is nearly full now"}, true},
		"a state in capitals":        {[]string{"volume vol7 is nearly full now", "volume NONE is nearly full now"}, false},
		"a word beside the number":   {[]string{"volume vol7 is nearly full now", "volume vol7 again is nearly full now"}, false},
		"a short sentence":           {[]string{"volume 7 full", "volume archive full"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := templatesOf(New(Config{}), c.lines); (len(got) == 1) != c.same {
				t.Errorf("got %q, one: want %v", got, c.same)
			}
		})
	}
}

func TestSeveralWordsAreTheSameAfterARestart(t *testing.T) {
	run := func(restart bool) []byte {
		m := New(Config{})
		var out bytes.Buffer
		for i := range 60 {
			name := []string{"web7", "SQL Prod", "Test VM old", "mail", "dc1 West"}[i*7%5]
			fmt.Fprintln(&out, m.AddContent(fmt.Sprintf("event %d: %s on host%d is powered %s", i, name, i%3, []string{"on", "off"}[i%2]), Unknown))
			fmt.Fprintln(&out, m.AddContent(fmt.Sprintf("message on %s of host%d: no space", name, i%3), Unknown))
			if restart && i%7 == 3 {
				w := &snapshot.Writer{}
				m.Write(w)
				m = New(Config{})
				m.Read(snapshot.NewReader(w.Data()))
			}
		}
		w := &snapshot.Writer{}
		m.Write(w)
		return append(out.Bytes(), w.Data()...)
	}
	if !bytes.Equal(run(false), run(true)) {
		t.Error("a restart changes what is found")
	}
}

func TestWhatIsAValueByItsSigns(t *testing.T) {
	for name, c := range map[string]struct{ line, want string }{
		"quotes after a sign":       {"access denied for 'app'@'localhost' today", "access denied for <*> today"},
		"backticks":                 {"table `shop`.`orders` is full", "table <*> is full"},
		"an apostrophe is no quote": {"it's the user's file", "it s the user s file"},
		"a list of lists":           {"failed [Parameters=[@p0='?' (Size = 7), @p1='?' (Size = 9)], CommandType='Text'] here", "failed <*> here"},
		"a range of hosts":          {"down nodes are node[1-3,7] and gpu[2-4]", "down nodes are <*> and <*>"},
		"an index is no range":      {"down is node[3] again", "down is node <*> again"},
		"YES after a colon":         {"refused (using password: YES)", "refused using password <*>"},
		"no begins a sentence":      {"open failed: no such file", "open failed no such file"},
		"yes after an equals sign":  {"quiet=yes loud=no", "quiet <*> loud <*>"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := text(tokenize(nil, c.line)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
