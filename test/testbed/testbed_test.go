package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestALogFileIsReadOnceAndOnlyWholeLines(t *testing.T) {
	dir := t.TempDir()
	pod := filepath.Join(dir, "shop_checkout-abc_0f1e", "app")
	if err := os.MkdirAll(pod, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(pod, "3.log")
	first := "2026-01-02T03:04:05.5Z stdout F time=x msg=serving metrics=127.0.0.1:4321\n2026-01-02T03:04:06Z stdout F not fini"
	if err := os.WriteFile(name, []byte(first), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newShipper(dir, NodeConfig{})
	got, err := s.read(name)
	if err != nil || len(got) != 1 || got[0] != [2]string{"1767323045500000000", "time=x msg=serving metrics=127.0.0.1:4321"} {
		t.Errorf("first read: %v, %v", got, err)
	}
	if err := os.WriteFile(name, []byte(first+"shed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, _ = s.read(name); len(got) != 1 || got[0][1] != "not finished" {
		t.Errorf("second read: %v", got)
	}
	w := httptest.NewRecorder()
	s.discovery(w, nil)
	if want := `[{"targets":["127.0.0.1:4321"],"labels":{"namespace":"shop","pod":"checkout-abc"}}]`; strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("discovery says %s, want %s", w.Body, want)
	}
}

func TestAServerThatLostItsPortIsStartedOnAnother(t *testing.T) {
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	began := 0
	p, ports, err := b.start(t.Context(), command{
		name: "server", ports: 1,
		argv: func(ports []int) ([]string, []string, error) {
			began++
			if began == 1 {
				return []string{"sh", "-c", "echo bind: address already in use; exit 1"}, nil, nil
			}
			return []string{"sleep", "60"}, nil, nil
		},
		ready: func(context.Context, []int) error {
			if began < 2 {
				return errors.New("not yet")
			}
			return nil
		},
	})
	if err != nil || began != 2 || len(ports) != 1 {
		t.Fatalf("began %d times, ports %v, %v", began, ports, err)
	}
	p.Kill()
}

func TestAServerThatEndsAtOnceShowsItsLog(t *testing.T) {
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	_, _, err = b.start(t.Context(), command{
		name: "server", argv: func([]int) ([]string, []string, error) {
			return []string{"sh", "-c", "echo flag -x is not defined; exit 2"}, nil, nil
		},
		ready: func(context.Context, []int) error { return errors.New("never") },
	})
	if err == nil || !strings.Contains(err.Error(), "flag -x is not defined") || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("got %v", err)
	}
}

func TestNothingIsLeftOfAClosedBed(t *testing.T) {
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stubborn, err := b.Launch("stubborn", nil, "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	select {
	case <-stubborn.Done():
	default:
		t.Error("a server outlived its bed")
	}
}

func TestADoorLetsInOnlyWhoKnowsThePassword(t *testing.T) {
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	addr, err := b.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _, has := r.BasicAuth()
		fmt.Fprint(w, "behind the door, password passed on: ", has)
	}))
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Authority()
	if err != nil {
		t.Fatal(err)
	}
	door := Door{Authority: a, User: "u", Password: "p"}
	url, err := b.Guard("server", "http://"+addr, door)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		door Door
		want int
	}{{door, 200}, {Door{Authority: a, User: "u", Password: "x"}, 401}, {Door{Authority: a}, 401}} {
		client, err := c.door.Client()
		if err != nil {
			t.Fatal(err)
		}
		client.Timeout = 5 * time.Second
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.want {
			t.Errorf("%s:%s is answered %s, want %d", c.door.User, c.door.Password, res.Status, c.want)
		}
	}
}
