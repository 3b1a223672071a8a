"""Rates over 60 seconds, two shards and a real clock: 1, 10 and 1000 a second, of a virtual MTA each,
within one message or 1 %, and in no window more. Run by ci/rates-exact.
"""
import time

from harness import send_message
from test_rates import Receiver, TEXT

RATES = (1, 10, 1000)
SPAN_S = 60


def test_rates_over_a_minute(world):
    receivers = {rate: Receiver(world, 8) for rate in RATES}
    daemon = world.daemon()
    text = daemon.base()
    for rate in RATES:
        text += f'<virtual-mta r{rate}>\n    max-smtp-msg-rate {rate}/s\n</virtual-mta>\n'
        for i, address in enumerate(receivers[rate].addresses):
            text += (f'<domain d{rate}x{i}.test>\n    smtp-hosts [{address}]:2525\n'
                     f'    reroute-to-virtual-mta r{rate}\n</domain>\n')
    daemon.write(text)
    daemon.start()
    for rate in RATES:
        for i in range(8):
            for part in range(0, max(rate * (SPAN_S + 15) // 8 + 4, 4), 500):
                count = min(500, rate * (SPAN_S + 15) // 8 + 4 - part)
                rcpts = [f'u{part + k}@d{rate}x{i}.test' for k in range(count)]
                assert send_message(daemon.listen, 'a@s.test', rcpts, TEXT)[0] == 250
    time.sleep(3)
    begin = time.monotonic()
    time.sleep(SPAN_S + 1)
    for rate in RATES:
        times = [at for at, _ in receivers[rate].recipients]
        seen = sum(begin <= at < begin + SPAN_S for at in times)
        wanted = rate * SPAN_S
        print(f'{rate}/s: {seen} in {SPAN_S} s, {wanted} wanted')
        assert abs(seen - wanted) <= max(1, wanted * 0.01)
        receivers[rate].check(times, rate, 1)
