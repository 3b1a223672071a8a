"""Rates over 60 seconds, two shards and a real clock: 1, 10 and 1000 a second, of a virtual MTA each,
within one message or 1 %, and in no window of a second more. The bench's sink notes when each
recipient came. Run by ci/rates-exact.
"""
import time

from harness import send_message
from test_rates import ON_THE_WAY_S, TEXT

RATES = (1, 10, 1000)
QUEUES = 8
SPAN_S = 60
# The step of a row of tokens is (1 s + 9 ms) / rate, shard/policy/rate.h.
LATE_S = 0.009


def test_rates_over_a_minute(world):
    addresses = {rate: [world.address() for _ in range(QUEUES)] for rate in RATES}
    file = world.path('times')
    first, *others = [address for rate in RATES for address in addresses[rate]]
    listen = [word for address in others for word in ('--listen', f'{address}:2525')]
    sink = world.sink(*listen, '--times', file, address=first)
    daemon = world.daemon()
    configure(daemon, addresses)
    daemon.start()
    for rate in RATES:
        fill(daemon, rate)
    time.sleep(3)
    begin = time.monotonic()
    time.sleep(SPAN_S + 1)
    sink.stop()
    seen = read_times(file)
    misses = [judge(rate, [at for at, address in seen if address in addresses[rate]], begin)
              for rate in RATES]
    assert not any(misses)


def configure(daemon, addresses):
    text = daemon.base()
    for rate in RATES:
        text += f'<virtual-mta r{rate}>\n    max-smtp-msg-rate {rate}/s\n</virtual-mta>\n'
        for i, address in enumerate(addresses[rate]):
            text += (f'<domain d{rate}x{i}.test>\n    smtp-hosts [{address}]:2525\n'
                     f'    reroute-to-virtual-mta r{rate}\n</domain>\n')
    daemon.write(text)


def fill(daemon, rate):
    """More for each queue than it can send."""
    needed = rate * (SPAN_S + 15) // QUEUES + 4
    for i in range(QUEUES):
        for part in range(0, needed, 500):
            rcpts = [f'u{part + k}@d{rate}x{i}.test' for k in range(min(500, needed - part))]
            assert send_message(daemon.listen, 'a@s.test', rcpts, TEXT)[0] == 250


def read_times(file):
    with open(file, encoding='ascii') as lines:
        words = (line.split() for line in lines)
        return sorted((int(at) / 1e9, address) for at, address in words)


def judge(rate, times, begin):
    """Prints the figures. True when it was too few, too many, or too many in some second."""
    counted = [at for at in times if begin <= at < begin + SPAN_S]
    wanted = rate * SPAN_S
    steps = sorted(((b - a, a - begin) for a, b in zip(counted, counted[1:])), reverse=True)
    lost = sum(max(0, length - (1 + LATE_S) / rate) for length, _ in steps)
    longest = ', '.join(f'{length * 1000:.1f} ms at {at:.1f} s' for length, at in steps[:4])
    shortest = min(last - first for first, last in zip(times, times[rate:]))
    print(f'{rate}/s: {len(counted)} in {SPAN_S} s, {wanted} wanted; {rate + 1} within '
          f'{shortest:.4f} s at least; {lost:.3f} s waited beyond the pace; longest steps {longest}')
    return abs(len(counted) - wanted) > max(1, wanted * 0.01) or shortest < 1 - ON_THE_WAY_S
