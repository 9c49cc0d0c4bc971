// SPDX-License-Identifier: Apache-2.0

// As bight_spawn.cpp, with os/exec.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

func runOne(talks bool) {
	if talks {
		output, err := exec.Command("/bin/echo", "hello").Output()
		if err != nil || string(output) != "hello\n" {
			panic(err)
		}
	} else if err := exec.Command("/bin/true").Run(); err != nil {
		panic(err)
	}
}

func main() {
	talks := os.Args[1] == "echo"
	count, _ := strconv.Atoi(os.Args[2])
	atATime, _ := strconv.Atoi(os.Args[3])
	runOne(talks)
	times := make([]float64, count)
	next := make(chan int)
	var workers sync.WaitGroup
	start := time.Now()
	for w := 0; w < atATime; w++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for i := range next {
				before := time.Now()
				runOne(talks)
				times[i] = float64(time.Since(before).Nanoseconds()) / 1000
			}
		}()
	}
	for i := 0; i < count; i++ {
		next <- i
	}
	close(next)
	workers.Wait()
	total := float64(time.Since(start).Nanoseconds()) / 1000
	text, _ := json.Marshal(map[string]any{"total_us": total, "each_us": times})
	fmt.Println(string(text))
}
