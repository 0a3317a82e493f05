#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tables and messages with mistakes in them, for the target rmpath: each is answered by OK or an errno that says so.

    dmfuzz.py SEED TABLES MESSAGES DISK...

Begins with tables as dmcompare.py makes them up, and changes some words. What is taken must print a table that is taken
too, and prints the same. Prints a line "ok WHAT" or "not ok WHAT" for each kind of check, and what the answers were.
"""

import collections
import sys

import dmcompare
import dmioctl
from waiting import attempt

MAP = "rmt-f"
KEEP = "rmt-k"
TARGET = "rmpath"
# What a wrong line, or a device that cannot be had, ends with.
NAMED = {"OK", "EINVAL", "ENODEV", "ENXIO", "ENOENT", "ENOTBLK", "EBUSY", "EOVERFLOW", "ENAMETOOLONG", "ENOTDIR"}
NASTY = (
    "-1 0 1 2 00 +1 1x 0x10 1.5 255 256 1023 1024 1025 32767 65535 65536 2147483647 2147483648 4294967295 4294967296 "
    "18446744073709551615 18446744073709551616 99999999999999999999999999999999 a A %s %n %u * ? . .. / // /dev /dev/ "
    "/dev/null /dev/zero /dev/no-such /etc/passwd /etc/passwd/x : :: 8: :0 8:0 9:9 8:0:0 0:0 1048576:0 999:999 "
    "4095:1048575 4096:0 queue_if_no_path queue_mode bio rq mq no_path_timeout pg_init_retries pg_init_delay_msecs "
    "retain_attached_hw_handler round-robin queue-length service-time historical-service-time io-affinity "
    "round-robin2 Round-Robin f ff 1,1 ffffffff 1,00000000 ,, fffffffffffffffffffffffffffffffff \\ \\\\ \\\\\\ x\\ \u00e9 "
    "\x01 \x7f"
).split(" ") + ["x" * 200, "9" * 500, "/" + "d" * 300, "1" * 4000]
MESSAGES = (
    "queue_if_no_path fail_if_no_path fail_path reinstate_path switch_group enable_group disable_group".split()
)


class Fuzzer(dmcompare.Generator):
    """Makes mistakes."""

    def mistake(self, words):
        """One change."""
        pick = self.random
        at = pick.randrange(len(words) + 1)
        kind = pick.randrange(9)
        if kind == 0:
            words.insert(at, pick.choice(NASTY))
        elif not words:
            return
        elif kind == 1:
            del words[at:]
        else:
            at = min(at, len(words) - 1)
            if kind == 2:
                del words[at]
            elif kind == 3:
                words.insert(at, words[at])
            elif kind == 4:
                other = pick.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            elif kind == 5 and words[at].isdigit():
                words[at] = str(int(words[at]) + pick.choice((-1, 1, 1024)))
            elif kind == 6:
                words[at] = words[at][: pick.randrange(len(words[at]) + 1)]
            elif kind == 7:
                words[at] += pick.choice(NASTY)
            else:
                words[at] = pick.choice(NASTY)

    def wrong(self, words):
        """A line with one change to four, at times with the blanks that dm_split_args() has to bear."""
        for _ in range(self.random.choice((0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4))):
            self.mistake(words)
        return self.random.choice((" ", " ", " ", "  ", "\t", " \n ")).join(words)

    def line(self):
        table, _ = self.table(self.random.choice(dmcompare.SELECTORS))
        words = table.split(" ")
        if self.chance(0.2):
            count = int(words[0])
            words[0:1] = [str(count + 2), "no_path_timeout", str(self.random.choice((0, 5, 3600)))]
        return self.wrong(words)

    def message(self):
        words = [self.random.choice(MESSAGES)]
        if self.chance(0.8):
            disk = self.random.choice(self.disks)
            words.append(self.random.choice((disk.node, disk.number, "0", "1", "2", "3")))
        return self.wrong(words)


def report(what, bad, answers):
    """One check: nothing bad."""
    counts = " ".join(f"{name}={count}" for name, count in sorted(answers.items()))
    print(("not ok " if bad else "ok ") + f"{sum(answers.values())} {what}: {counts}")
    for text in bad[:20]:
        print("# " + text)
    sys.stdout.flush()


def inactive():
    return dmioctl.lines(MAP, dmioctl.STATUS_TABLE | dmioctl.INACTIVE).split(" ", 3)[3]


def tables(fuzzer, count, sectors):
    answers, bad, again = collections.Counter(), [], collections.Counter()
    unlike = []
    for _ in range(count):
        line = fuzzer.line()
        answer = attempt(dmioctl.load, MAP, sectors, TARGET, line)
        answers[answer] += 1
        if answer not in NAMED:
            bad.append(f"{answer}: {line!r}")
        if answer != "OK":
            continue
        if answers["OK"] % 8 != 1:
            # Opening the devices takes most of the time.
            dmioctl.clear(MAP)
            continue
        shown = inactive()
        answer = attempt(dmioctl.load, MAP, sectors, TARGET, shown)
        if answer == "OK" and inactive() != shown:
            answer = "DIFFERENT"
        again[answer] += 1
        if answer != "OK":
            unlike.append(f"{answer}: {line!r} -> {shown!r}")
        dmioctl.clear(MAP)
    report("wrong tables", bad, answers)
    report("tables that were taken, as they are shown", unlike, again)


def messages(fuzzer, count, sectors):
    # No queue_if_no_path, so that nothing waits.
    table, _ = fuzzer.table("queue-length")
    while "queue_if_no_path" in table.lower():
        table, _ = fuzzer.table("queue-length")
    dmioctl.load(MAP, sectors, TARGET, table)
    dmioctl.resume(MAP)
    answers, bad = collections.Counter(), []
    for _ in range(count):
        text = fuzzer.message()
        answer = attempt(dmioctl.message, MAP, text)
        answers[answer] += 1
        if answer not in NAMED:
            bad.append(f"{answer}: {text!r}")
    report("wrong messages", bad, answers)
    shown = len(dmioctl.lines(MAP)) > 0 and len(dmioctl.lines(MAP, dmioctl.IMA)) > 0
    report("map that is still there", [] if shown else ["it shows nothing"], collections.Counter(OK=1))


def main():
    seed, wrong_tables, wrong_messages, *names = sys.argv[1:]
    disks = [dmcompare.Disk(name) for name in names]
    fuzzer = Fuzzer(int(seed), disks)
    sectors = disks[0].sectors()
    # While there is a map, what the block layer keeps for all maps of a kind is not made and destroyed with each table.
    table, _ = fuzzer.table("queue-length")
    dmioctl.create(KEEP)
    dmioctl.create(MAP)
    try:
        dmioctl.load(KEEP, sectors, TARGET, table)
        dmioctl.resume(KEEP)
        tables(fuzzer, int(wrong_tables), sectors)
        messages(fuzzer, int(wrong_messages), sectors)
    finally:
        dmioctl.remove(MAP)
        dmioctl.remove(KEEP)


if __name__ == "__main__":
    main()
