#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random reads by file_read and by fio's io_uring engine, in turns, on the same file.

    bench/files/against_fio.py build/release/bench/files/file_read --file /var/tmp/bight-bench --rounds 15

A device that others use, too, changes its speed from one second to the next. So what counts is the ratio of two runs
that stand side by side, and of those ratios the median; who goes first changes from round to round. fio runs twice in
each round: its ratio to itself says how much of a difference is chance. Exits with 1 if a median is below --at-least.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

CASES = [(1, False), (64, False), (1, True), (64, True)]  # depth, direct


def run(command, **environment):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, **environment})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout[done.stdout.index('{'):])


def by_bight(options, depth, direct):
    command = [options.program, '--json', '--file', options.file, '--size', str(options.size), '--depth', str(depth),
               '--milliseconds', str(options.milliseconds)] + (['--direct'] if direct else [])
    return run(command, BIGHT_LOG='warning', BIGHT_ENGINE=options.engine)['reads_per_second']


def by_fio(options, depth, direct):
    command = ['fio', '--name=read', f'--filename={options.file}', f'--size={options.size}', '--rw=randread', '--bs=4k',
               '--ioengine=io_uring', f'--iodepth={depth}', f'--direct={int(direct)}', '--invalidate=0',
               '--norandommap', '--time_based', f'--runtime={options.milliseconds}ms', '--output-format=json']
    return run(command)['jobs'][0]['read']['iops']


def compare(options, depth, direct):
    ours, theirs, again = [], [], []
    for turn in range(options.rounds):
        pair = [(ours, by_bight), (theirs, by_fio)]
        for rates, by in (pair if turn % 2 else pair[::-1]) + [(again, by_fio)]:
            rates.append(by(options, depth, direct))
    ratios = [mine / fio for mine, fio in zip(ours, theirs)]
    chance = [one / other for one, other in zip(again, theirs)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    result = {'depth': depth, 'direct': direct, 'bight': statistics.median(ours), 'fio': statistics.median(theirs),
              'ratio': middle, 'ratio_quartiles': [low, high], 'fio_to_itself': statistics.median(chance),
              'bight_all': ours, 'fio_all': theirs, 'fio_again_all': again}
    if not options.json:
        kind = 'direct' if direct else 'warm'
        print(f"{kind:6} depth {depth:2}: bight {result['bight']:9.0f}/s  fio {result['fio']:9.0f}/s  ratio {middle:.3f} "
              f"(quartiles {low:.2f} to {high:.2f}; fio to itself {result['fio_to_itself']:.3f})", flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('program', help='file_read')
    parser.add_argument('--file', default='/var/tmp/bight-bench-file')
    parser.add_argument('--size', type=int, default=1 << 30)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--milliseconds', type=int, default=1000)
    parser.add_argument('--engine', default='uring')
    parser.add_argument('--at-least', type=float, default=0.9)
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    by_bight(options, 1, False)  # makes the file
    with open(options.file, 'rb', buffering=0) as file:  # and has all of it in the page cache
        while file.read(1 << 22):
            pass
    results = [compare(options, depth, direct) for depth, direct in CASES]
    if options.json:
        print(json.dumps(results))
    sys.exit(any(result['ratio'] < options.at_least for result in results))


if __name__ == '__main__':
    main()
