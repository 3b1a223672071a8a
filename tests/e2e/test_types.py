"""What leaves, and where to: headers without some of their fields, files and programs."""
from dkim_mail import Key, verdicts
from harness import Smtp, send_message
from test_peers import Receiver

REMOVES = '''{{base}}
domain-key r1,*,{key}
<domain kept.test>
    smtp-hosts [{kept}]:2525
    remove-header ""
</domain>
<domain *>
    smtp-hosts [{receiver}]:2525
    remove-header x-gone, Received,List-Id
    dkim-sign yes
    dkim-headers X-Gone,X-Kept
    dkim-disallow-adding-headers List-Id
</domain>
'''
HEADER = b'From: a@shop.example\r\nX-GONE: 1\r\n\tfolded\r\nSubject: x-gone: s\r\n' \
    b'X-Gone-Not: 2\r\nlist-id: <l>\r\nX-Kept: \xe4\r\nX-gone: 3\r\n'
LEFT = b'From: a@shop.example\r\nSubject: x-gone: s\r\nX-Gone-Not: 2\r\nX-Kept: \xe4\r\n'


def test_headers_are_removed_at_delivery(world):
    """By DATA and BDAT, small and in chunks, after a restart too; others of the same message keep
    them, and a signature does not speak of what its queue removes."""
    receiver, kept = Receiver(world), Receiver(world)
    key = Key(world.program('ringpost'), world.path(''), '2048')
    records = {'r1._domainkey.shop.example': key.record}
    config = REMOVES.format(key=key.path, receiver=receiver.address, kept=kept.address)
    daemon = world.daemon(config).start()
    line = b'X-Gone: body %d\r\n'
    bodies = [b'\r\n' + b''.join(line % i for i in range(count)) for count in (3, 500, 60000)]
    sent = 0
    for body in bodies:
        assert send_message(daemon.listen, 'a@shop.example', ['b@one.test', 'c@kept.test'],
                            HEADER + body)[0] == 250
        sent += 1
        arrived = receiver.wait(sent)[-1][2]
        assert arrived.endswith(LEFT + body) and not arrived.startswith(b'Received')
        assert verdicts(arrived, records) == [True] == verdicts(kept.wait(sent)[-1][2], records)
        assert kept.wait(sent)[-1][2].endswith(HEADER + body)
    # The receiver has shown what it is by now: BDAT.
    for _ in range(3):
        client = Smtp(daemon.listen)
        client.command('EHLO client.test')
        client.envelope('a@shop.example', ['b@one.test'])
        assert client.bdat(HEADER[:50], HEADER[50:] + bodies[0])[0] == 250
        client.close()
        sent += 1
        assert receiver.wait(sent)[-1][2].endswith(LEFT + bodies[0])
    # What waits gets what the configuration says when it leaves.
    daemon.cli('pause', 'queue', 'one.test/*')
    for body in bodies:
        assert send_message(daemon.listen, 'a@shop.example', ['b@one.test'], HEADER + body)[0] == 250
    daemon.kill()
    daemon.start()
    daemon.cli('resume', 'queue', 'one.test/*')
    got = receiver.wait(sent + 3)[sent:]
    for body in bodies:
        assert [True for mail in got if mail[2].endswith(LEFT + body)]
