#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random reads by file_read and by fio's io_uring engine, in turns, on the same file; medians and their ratio.

    bench/files/against_fio.py build/release/bench/files/file_read --file /var/tmp/bight-bench --rounds 9
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('program', help='file_read')
    parser.add_argument('--file', default='/var/tmp/bight-bench-file')
    parser.add_argument('--size', type=int, default=1 << 30)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--milliseconds', type=int, default=2000)
    parser.add_argument('--engine', default='uring')
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    by_bight(options, 1, False)  # makes the file
    with open(options.file, 'rb', buffering=0) as file:  # and has all of it in the page cache
        while file.read(1 << 22):
            pass
    results = []
    for depth, direct in CASES:
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(by_bight(options, depth, direct))
            theirs.append(by_fio(options, depth, direct))
        mine, fio = statistics.median(ours), statistics.median(theirs)
        results.append({'depth': depth, 'direct': direct, 'bight': mine, 'fio': fio, 'ratio': mine / fio,
                        'bight_all': ours, 'fio_all': theirs})
        if not options.json:
            kind = 'direct' if direct else 'warm'
            print(f'{kind:6} depth {depth:2}: bight {mine:9.0f}/s  fio {fio:9.0f}/s  ratio {mine / fio:.3f}', flush=True)
    if options.json:
        print(json.dumps(results))


if __name__ == '__main__':
    main()
