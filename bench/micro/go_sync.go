// SPDX-License-Identifier: Apache-2.0

// The same as in sync.cpp, by the same names, with Go's tools; on one processor, as a loop is. Speaks Google
// Benchmark's JSON.
package main

import (
	"encoding/json"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

func mutexFree(b *testing.B) {
	var mutex sync.Mutex
	for i := 0; i < b.N; i++ {
		mutex.Lock()
		mutex.Unlock()
	}
}

// A permit of a semaphore is a place in a channel.
func semaphoreFree(b *testing.B) {
	semaphore := make(chan struct{}, 1)
	for i := 0; i < b.N; i++ {
		semaphore <- struct{}{}
		<-semaphore
	}
}

func channelMessage(capacity int) func(*testing.B) {
	return func(b *testing.B) {
		channel := make(chan uint64, capacity)
		done := make(chan uint64)
		go func() {
			var sum uint64
			for value := range channel {
				sum += value
			}
			done <- sum
		}()
		for i := 0; i < b.N; i++ {
			channel <- uint64(i)
		}
		close(channel)
		<-done
	}
}

func channelRoundTrip(capacity int) func(*testing.B) {
	return func(b *testing.B) {
		there := make(chan uint64, capacity)
		back := make(chan uint64, capacity)
		go func() {
			for value := range there {
				back <- value
			}
		}()
		for i := 0; i < b.N; i++ {
			there <- uint64(i)
			<-back
		}
		close(there)
	}
}

func selectReady(b *testing.B) {
	var channels [8]chan uint64
	for i := range channels {
		channels[i] = make(chan uint64, 1)
		channels[i] <- 1
	}
	var sum uint64
	for i := 0; i < b.N; i++ {
		select {
		case value := <-channels[0]:
			sum += value
			channels[0] <- 1
		case value := <-channels[1]:
			sum += value
			channels[1] <- 1
		case value := <-channels[2]:
			sum += value
			channels[2] <- 1
		case value := <-channels[3]:
			sum += value
			channels[3] <- 1
		case value := <-channels[4]:
			sum += value
			channels[4] <- 1
		case value := <-channels[5]:
			sum += value
			channels[5] <- 1
		case value := <-channels[6]:
			sum += value
			channels[6] <- 1
		case value := <-channels[7]:
			sum += value
			channels[7] <- 1
		}
	}
}

type result struct {
	Name     string  `json:"name"`
	RunType  string  `json:"run_type"`
	RealTime float64 `json:"real_time"`
	CPUTime  float64 `json:"cpu_time"`
	TimeUnit string  `json:"time_unit"`
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func measure(name string, count int, body func(*testing.B)) result {
	cpu, start := cpuTime(), time.Now()
	body(&testing.B{N: count})
	each := func(taken time.Duration) float64 { return float64(taken.Nanoseconds()) / float64(count) }
	return result{name, "iteration", each(time.Since(start)), each(cpuTime() - cpu), "ns"}
}

func main() {
	runtime.GOMAXPROCS(1)
	count := 2_000_000
	for _, word := range os.Args[1:] {
		if word == "--smoke" {
			count = 10
		}
	}
	results := []result{
		measure("mutex_free", 10*count, mutexFree),
		measure("semaphore_free", 5*count, semaphoreFree),
		measure("channel_message/64", 3*count, channelMessage(64)),
		measure("channel_round_trip/0", count, channelRoundTrip(0)),
		measure("channel_round_trip/1", count, channelRoundTrip(1)),
		measure("select_8_ready", count, selectReady),
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"context": map[string]any{}, "benchmarks": results})
}
