"""What a source does with messages that come in: their header is looked through, it chooses the way
out and what accounting says, and what is to be removed does not leave.
"""
import email
import re

import pytest

from harness import Smtp, send_message, until
from test_peers import Receiver

WAYS = '''{{base}}
<virtual-mta w>
    smtp-source-host {{daemon.source}} w.relay.test
</virtual-mta>
<virtual-mta x>
    smtp-source-host {{daemon.source}} x.relay.test
</virtual-mta>
<virtual-mta-pool both>
    virtual-mta w
    virtual-mta x
</virtual-mta-pool>
<source 127.0.0.0/8>
{more}
</source>
<domain *>
    smtp-hosts [{receiver}]:2525
</domain>
'''
BODY = b'\r\nX-Job: in the body\r\nx-virtual-mta: x\r\n'


@pytest.fixture(name='relay')
def relay_fixture(world):
    """A daemon whose source has these settings, and what its receiver gets."""
    def start(more):
        receiver = Receiver(world)
        daemon = world.daemon(WAYS.format(more=more, receiver=receiver.address)).start()
        return daemon, receiver

    return start


def send(daemon, header, body=BODY, parameters=''):
    return send_message(daemon.listen, 'a@sender.test', ['b@one.test'], header + body, parameters)


def last_row(daemon, count):
    return daemon.wait_for_rows(count)[-1]


def own_header(content):
    """The header without what ringpost puts in front."""
    assert content.startswith(b'Received: ')
    lines = content.split(b'\r\n')
    end = next(i for i, line in enumerate(lines[1:], 1) if not line.startswith((b' ', b'\t')))
    return b'\r\n'.join(lines[end:])


def test_headers_choose_and_disappear(relay):
    """The first of each counts, all go, folded ones and whatever their case; the body stays."""
    daemon, receiver = relay('process-x-virtual-mta yes\nprocess-x-job yes\nprocess-x-envid yes\n'
                             'jobid-prefix p-')
    assert send(daemon, b'X-VIRTUAL-mta: w\r\nFrom: a@sender.test\r\nX-Job:\r\n one\r\n'
                        b'x-virtual-mta: x\r\nx-envid: env 7\r\nSubject: s\r\n t\r\n'
                        b'X-JOB: two\r\n')[0] == 250
    row = last_row(daemon, 1)
    assert (row['vmta'], row['vmtaPool'], row['jobId'], row['envId']) == ('w', '', 'p-one', 'env 7')
    assert own_header(receiver.wait(1)[0][2]) == \
        b'From: a@sender.test\r\nSubject: s\r\n t\r\n' + BODY
    # Octet by octet, and a message that is nothing but its header.
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@sender.test', ['b@one.test'])
    assert client.command('DATA')[0] == 354
    for octet in b'x-virtual-mta: both\r\nSubject: s\r\nX-Job: three\r\n.\r\n':
        client.send(bytes([octet]))
    assert client.reply()[0] == 250
    client.close()
    row = last_row(daemon, 2)
    assert (row['vmtaPool'], row['jobId']) == ('both', 'p-three')
    assert row['vmta'] in ('w', 'x')
    assert own_header(receiver.wait(2)[1][2]).rstrip() == b'Subject: s'
    # A line that is no field ends the header for this question too.
    assert send(daemon, b'Subject: s\r\nno field\r\nx-virtual-mta: w\r\n')[0] == 250
    assert last_row(daemon, 3)['vmta'] == 'v'
    assert b'x-virtual-mta: w\r\n' in receiver.wait(3)[2][2]


def test_headers_that_nobody_processes_stay(relay):
    """Without its switch a header is just a header; with retain it acts and stays."""
    daemon, receiver = relay('process-x-job yes\nretain-x-job yes\njobid-header X-Campaign')
    header = b'x-virtual-mta: w\r\nX-Job: one\r\nX-Campaign: two\r\nx-envid: e\r\n'
    assert send(daemon, header)[0] == 250
    row = last_row(daemon, 1)
    assert (row['vmta'], row['jobId'], row['envId']) == ('v', 'two', '')
    assert own_header(receiver.wait(1)[0][2]) == header + BODY


def test_who_may_name_which_way(relay):
    """A list of ways bounds what messages may name; unknown ones are refused."""
    daemon, receiver = relay('process-x-virtual-mta yes\nallow-virtual-mta both,w')
    for name, code in [(b'x', 550), (b'nobody', 550), (b'both', 250), (b'W', 250), (b'', 554)]:
        got = send(daemon, b'X-Virtual-MTA: ' + name + b'\r\nSubject: s\r\n')
        assert got[0] == code, (name, got)
    rows = daemon.wait_for_rows(2)
    assert [row['vmtaPool'] for row in rows] in (['both', ''], ['', 'both'])
    assert len(receiver.wait(2)) == 2
    assert daemon.counters()['refused_messages'] == 3


def test_fallback_and_the_header_of_our_own(relay):
    """Instead of a refusal another way; the chosen one is told to the receiver."""
    daemon, receiver = relay('process-x-virtual-mta yes\nreject-invalid-virtual-mta no\n'
                             'invalid-virtual-mta-fallback x\nallow-empty-x-virtual-mta yes\n'
                             'add-x-virtual-mta-header yes')
    for count, (name, way) in enumerate([(b'nobody', 'x'), (b'', 'v'), (b'w', 'w')], 1):
        assert send(daemon, b'x-virtual-mta: ' + name + b'\r\nSubject: s\r\n')[0] == 250
        assert last_row(daemon, count)['vmta'] == way
        header = own_header(receiver.wait(count)[-1][2])
        assert header == b'X-Virtual-MTA: ' + way.encode() + b'\r\nSubject: s\r\n' + BODY


def test_lists_and_headers_follow_a_reload(relay):
    """Of a source that had nothing to do with either when its clients came in."""
    daemon, receiver = relay('')
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@sender.test', ['b@one.test'])
    assert client.data(b'X-Job: j\r\n' + BODY)[0] == 250
    assert last_row(daemon, 1)['jobId'] == ''
    relay_again(daemon, receiver, 'process-x-job yes\nsuppression-lists gone\n</source>\n'
                '<address-list gone>\n    address b@one.test\n</address-list>\n<source 1.2.3.4>')
    client.envelope('a@sender.test', ['c@one.test'])
    assert client.command('RCPT TO:<b@one.test>')[0] == 550
    assert client.data(b'X-Job: j\r\n' + BODY)[0] == 250
    assert last_row(daemon, 2)['jobId'] == 'j'


def test_a_reload_between_mail_and_data(relay):
    """The way out that the source named is gone by then: the message takes the one that it has now."""
    daemon, receiver = relay('default-virtual-mta y\nprocess-x-job yes\n</source>\n'
                             '<virtual-mta y>\n</virtual-mta>\n<source 1.2.3.4>')
    clients = [Smtp(daemon.listen) for _ in range(4)]
    for client in clients:
        client.command('EHLO client.test')
        client.envelope('a@sender.test', ['b@one.test'])
    relay_again(daemon, receiver, 'default-virtual-mta x\nprocess-x-job yes')
    for client in clients:
        assert client.data(b'A: 1\r\n' + BODY)[0] == 250
        client.envelope('a@sender.test', ['b@one.test'])
        assert client.data(b'A: 1\r\n' + BODY)[0] == 250
        client.close()
    assert {row['vmta'] for row in daemon.wait_for_rows(8)} == {'x'}
    assert len(receiver.wait(8)) == 8


def test_the_address_connected_to_chooses(world):
    """by-smtp-source-ip: the virtual MTA whose address the client has connected to."""
    receiver = Receiver(world)
    other = world.address()
    daemon = world.daemon(
        f'{{base}}smtp-listener {other}:2525\n'
        f'<virtual-mta w>\n    smtp-source-host {other} w.relay.test\n</virtual-mta>\n'
        f'<source 127.0.0.0/8>\n    default-virtual-mta by-smtp-source-ip\n</source>\n'
        f'<domain *>\n    smtp-hosts [{receiver.address}]:2525\n</domain>\n').start()
    for count, (address, way) in enumerate([(other, 'w'), (daemon.listen, '{default}')], 1):
        assert send_message(address, 'a@sender.test', ['b@one.test'], b'A: 1\r\n' + BODY)[0] == 250
        assert last_row(daemon, count)['vmta'] == way


def test_header_of_many_kilobytes_and_large_bodies(relay):
    """A large header is looked through too, up to a bound; a message in chunks keeps every octet."""
    daemon, receiver = relay('process-x-job yes\nremove-received-headers yes\nremove-header X-Gone')
    long = b''.join(b'X-Line-%d: %s\r\n' % (i, b'y' * 900) for i in range(120))
    header = b'Received: from a\r\n\tby b; now\r\nX-gone: 1\r\n' + long + b'X-Job: last\r\n'
    body = b'\r\n' + b''.join(b'.line %d\r\n' % i for i in range(40000))
    assert send(daemon, header, body)[0] == 250
    assert last_row(daemon, 1)['jobId'] == 'last'
    assert own_header(receiver.wait(1)[0][2]) == long + body
    assert send(daemon, long * 3)[0] == 552
    assert send(daemon, b'A: 1\r\n' * 2000)[0] == 554
    assert send(daemon, b'X-Job: a\x01b\r\n')[0] == 554
    until(lambda: daemon.counters()['refused_messages'] == 3, 5, 'three refusals')


LISTS = '''
<pattern-list main>
    header X-Stream /^Trans/ virtual-mta=w
    call-to:nested
    mail-from /@news\\./ virtual-mta=both
    rcpt-to /\\/odd@/ virtual-mta=x,recipient-priority=90
</pattern-list>
<pattern-list nested>
    rcpt-to /@(one|two)\\.test$/ virtual-mta=x
</pattern-list>
<address-list gone>
    address Never@one.test
    address /^abuse\\+/
    domain [*.]gone.test
    address-file {file}
</address-list>
'''


def test_lists_choose_and_suppress(world, relay):
    """Rules in order, over nested lists; recipients that go different ways come one after the other.
    Addresses on a list are refused."""
    listed = world.path('addresses')
    with open(listed, 'w', encoding='utf-8') as file:
        file.write('# a comment\nfiled@one.test\n\nwhole.test\n')
    daemon, receiver = relay('pattern-list main\nsuppression-lists gone\n</source>\n' +
                             LISTS.format(file=listed) + '<source 1.2.3.4>')
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    cases = [('a@sender.test', 'b@one.test', b'', ('x', '')),
             ('a@sender.test', 'b@three.test', b'', ('v', '')),
             ('a@news.sender.test', 'b@TWO.test', b'', ('x', '')),
             ('a@news.sender.test', 'b@three.test', b'X-Stream: none\r\n', (None, 'both')),
             ('a@news.sender.test', 'b@one.test', b'x-stream:\r\n transactional\r\n', ('w', '')),
             ('a@sender.test', '/odd@three.test', b'', ('x', ''))]
    for count, (sender, rcpt, header, (vmta, pool)) in enumerate(cases, 1):
        client.envelope(sender, [rcpt])
        assert client.data(b'Subject: s\r\n' + header + BODY)[0] == 250
        row = last_row(daemon, count)
        assert row['vmtaPool'] == pool and (row['vmta'] == vmta or not vmta), (rcpt, row)
    client.envelope('a@sender.test', ['b@one.test', 'c@two.test'])
    assert client.command('RCPT TO:<d@three.test>')[0] == 452
    for rcpt in ['never@one.test', 'abuse+x@one.test', 'a@gone.test', 'a@b.gone.test',
                 'FILED@one.test', 'who@whole.test']:
        assert client.command(f'RCPT TO:<{rcpt}>')[0] == 550, rcpt
    assert client.command('RCPT TO:<a@notgone.test>')[0] == 452
    assert client.data(BODY)[0] == 250
    assert {row['vmta'] for row in daemon.wait_for_rows(8)[6:]} == {'x'}
    assert len(receiver.wait(7)) >= 7


def test_lists_see_where_mail_would_go(relay):
    """Quotes, other letters of a domain, an alias, a missing suffix: none of it leads around a list,
    and rules look at what the recipient becomes."""
    daemon, receiver = relay('''pattern-list ways
        suppression-lists gone
    </source>
    domain-suffix sub.test
    alias all@here.test never@one.test,b@two.test
    alias none@here.test never@one.test,NEVER@one.test
    alias many@here.test c@two.test,d@three.test
    <address-list gone>
        address never@one.test
        address off@short.sub.test
        domain xn--bcher-kva.test
    </address-list>
    <pattern-list ways>
        rcpt-to /@two\\.test$/ virtual-mta=x
        rcpt-to /@short\\.sub\\.test$/ virtual-mta=w
    </pattern-list>
    <source 1.2.3.4>''')
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    assert client.command('MAIL FROM:<a@sender.test> SMTPUTF8')[0] == 250
    for rcpt in ['"never"@one.test', '"nev\\er"@ONE.test', 'off@short', 'none@here.test',
                 'a@b\u00fccher.test', 'a@xn--bcher-kva.test']:
        code, text = client.command(f'RCPT TO:<{rcpt}>')
        assert (code, 'suppression list' in text) == (550, True), (rcpt, text)
    client.command('RSET')
    # Who is left of an alias gets it, and its first target chooses the way.
    client.envelope('a@sender.test', ['all@here.test', 'many@here.test', 'e@two.test'])
    assert client.command('RCPT TO:<f@three.test>')[0] == 452
    assert client.data(b'Subject: s\r\n' + BODY)[0] == 250
    rows = daemon.wait_for_rows(4)
    assert sorted(row['rcpt'] for row in rows) == ['b@two.test', 'c@two.test', 'd@three.test',
                                                   'e@two.test']
    assert {row['vmta'] for row in rows} == {'x'}
    # What is completed goes by the rule for what it becomes.
    client.envelope('a@sender.test', ['b@short'])
    assert client.command('RCPT TO:<f@three.test>')[0] == 452
    assert client.data(b'Subject: s\r\n' + BODY)[0] == 250
    row = last_row(daemon, 5)
    assert (row['rcpt'], row['vmta']) == ('b@short.sub.test', 'w')
    assert len(receiver.wait(2)) >= 2


def test_fields_that_are_missing_are_added(relay):
    """Message-ID and Date where there is none, or a Date of ours in any case."""
    daemon, receiver = relay('add-message-id-header yes\nadd-date-header yes\n'
                             'hide-message-source yes')
    assert send(daemon, b'Subject: s\r\n')[0] == 250
    own = b'message-id: <1@own>\r\nDATE: Thu, 1 Jan 1970 00:00:00 +0000\r\n'
    assert send(daemon, own)[0] == 250
    first, second = sorted((message[2] for message in receiver.wait(2)), key=lambda m: own in m)
    assert b'\r\nMessage-ID: <' in first and b'@relay.test>\r\nDate: ' in first
    assert own_header(second) == own + BODY
    assert b'127.' not in second.split(b'\r\n')[0]
    daemon, receiver = relay_again(daemon, receiver, 'add-date-header override')
    assert send(daemon, own)[0] == 250
    third = receiver.wait(3)[2][2]
    assert b'1970' not in third and third.lower().count(b'\r\ndate: ') == 1


def relay_again(daemon, receiver, more):
    daemon.write(WAYS.format(more=more, receiver=receiver.address))
    answer = daemon.cli('reload')
    assert answer.returncode == 0, answer.stderr
    return daemon, receiver


ONE_CLICK = b'List-Unsubscribe: <mailto:u@x>, <https://x/u>\r\nList-Unsubscribe-Post: ' \
            b'List-Unsubscribe=One-Click\r\n'


def test_fields_that_several_settings_are_about(relay):
    """A field that is removed is missing, so ours takes its place; and a job may be named by a field
    that says something else too."""
    daemon, receiver = relay('process-x-job yes\njobid-header Feedback-ID\nretain-x-job yes\n'
                             'feedback-id ours:{{job}}\nadd-message-id-header yes\n'
                             'remove-header Message-ID,X-Job\nrequire-message-id reject')
    assert send(daemon, b'Feedback-ID: theirs\r\nMESSAGE-ID: nonsense\r\nX-Job: no\r\n'
                        b'message-id: <a@b>\r\n')[0] == 250
    assert last_row(daemon, 1)['jobId'] == 'theirs'
    got = email.message_from_bytes(receiver.wait(1)[0][2])
    assert got.get_all('Feedback-ID') == ['theirs'] and got['X-Job'] is None
    assert [re.fullmatch(r'<\w+@relay.test>', value) is not None
            for value in got.get_all('Message-ID')] == [True]
    relay_again(daemon, receiver, 'process-x-job yes\nfeedback-id ours:{{job}}\nretain-x-job yes\n'
                                  'remove-header Feedback-ID,X-Job,Received')
    assert send(daemon, b'Feedback-ID: theirs\r\nX-Job: j\r\nReceived: from x\r\n')[0] == 250
    got = email.message_from_bytes(receiver.wait(2)[1][2])
    assert got.get_all('Feedback-ID') == ['ours:j'] and got['X-Job'] is None
    assert len(got.get_all('Received')) == 1


def test_what_a_source_requires(relay):
    """Without one-click unsubscription, an aligned From or a Message-ID a message is refused, or a
    line in the log tells of it."""
    good = ONE_CLICK + b'From: "a, <b@c>" <x@News.Sender.test>\r\nMessage-ID: <1@x>\r\n'
    daemon, receiver = relay('require-list-unsubscribe reject\nrequire-from-alignment reject\n'
                             'require-message-id reject\nfeedback-id {{job}}:{{vmta}}:brand\n'
                             'process-x-job yes')
    for header, code in [(good, 250),
                         (good.replace(b'https', b'http'), 550),
                         (good.replace(b'-Post', b'-Pots'), 550),
                         (good.replace(b'Sender', b'Other'), 550),
                         (good.replace(b'News.Sender.test', b'test'), 550),
                         (good.replace(b'News.Sender', b'Xsender'), 550),
                         (good.replace(b'From: ', b'From: a@sender.test, '), 550),
                         (good + b'From: a@sender.test\r\n', 550),
                         (good.replace(b'<1@x>', b'1@x'), 550),
                         (good.replace(b'Message-ID', b'X-ID'), 550),
                         (good.replace(b'<x@News.Sender.test>', b' x@sender.test'), 550),
                         (good.replace(b'"a,', b'(<x@sender.test>) b@other.test\r\nX: "'), 550),
                         (good.replace(b'"a,', b'<x@sender.test> b@other.test\r\nX: "'), 550),
                         (good.replace(b'"a,', b'b@other.test x@sender.test\r\nX: "'), 550),
                         (good + b'X-Job: seven\r\nFeedback-id: own\r\n', 250),
                         (good + b'X-Job: seven\r\n', 250)]:
        got = send(daemon, header)
        assert got[0] == code, (header, got)
    messages = [message[2] for message in receiver.wait(3)]
    odd = b'no field\r\nFrom: b@other.test\r\n'
    old = good.replace(b'"a,', b' (\\) (<)) x@sender.test\r\n (a)\r\nX: "')
    assert send(daemon, old + odd)[0] == 250
    # Where it ended for us it ends for everybody.
    assert receiver.wait(4)[3][2].endswith(old + b'\r\n' + odd + BODY)
    assert [b'Feedback-ID: :v:brand\r\n' in m for m in messages].count(True) == 1
    assert [b'Feedback-ID: seven:v:brand\r\n' in m for m in messages].count(True) == 1
    assert [b'Feedback-id: own\r\n' in m for m in messages].count(True) == 1
    relay_again(daemon, receiver, 'require-message-id warn\nrequire-list-unsubscribe warn')
    assert send(daemon, b'Subject: s\r\n')[0] == 250
    log = daemon.program.log()
    assert 'not exactly one well-formed Message-ID' in log and 'one-click unsub' in log


def test_recipients_and_talk(relay):
    """bcc, domain-suffix, too many recipients, the end after a 4xx, VERP, the log of a session."""
    daemon, receiver = relay('bcc archive@bcc.test\nmax-rcpt-per-message 2\nlog-connections yes\n'
                             'log-commands yes\nlog-data yes\n</source>\n'
                             'domain-suffix sub.test\n<source 1.2.3.4>')
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@short', ['b@one', 'c@two.test'])
    assert client.command('RCPT TO:<d@two.test>')[0] == 452
    assert client.data(b'Subject: s\r\n\r\n.hello\r\n')[0] == 250
    client.close()
    rows = daemon.wait_for_rows(3)
    assert sorted(row['rcpt'] for row in rows) == ['archive@bcc.test', 'b@one.sub.test',
                                                   'c@two.test']
    assert {row['orig'] for row in rows} == {'a@short.sub.test'}
    for words in [' connected', '> RCPT TO:<d@two.test>', '< 452 4.5.3', '>> Subject: s',
                  '>> ..hello', ' gone']:
        until(lambda words=words: words in daemon.program.log(), 5, words)
    relay_again(daemon, receiver, 'max-rcpt-per-message 1\ntoo-many-rcpts-fails-message yes')
    for last in ['data', 'bdat']:
        client = Smtp(daemon.listen)
        client.command('EHLO client.test')
        client.envelope('a@sender.test', ['b@one.test'])
        assert client.command('RCPT TO:<c@one.test>')[0] == 552
        if last == 'data':
            assert client.command('DATA')[0] == 552
        else:
            assert client.bdat(b'A: 1\r\n\r\nbody\r\n')[0] == 552
        client.envelope('a@sender.test', ['b@one.test'])
        assert client.data(b'A: 1\r\n' + BODY)[0] == 250
        client.close()
    relay_again(daemon, receiver, 'max-rcpt-per-message 1\ndisconnect-on-transient-error yes')
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@sender.test', ['b@one.test'])
    assert client.command('RCPT TO:<c@one.test>')[0] == 452
    assert client.reply()[0] == 0
    assert len(receiver.wait(5)) == 5
    daemon.wait_for_rows(5)
    relay_again(daemon, receiver, 'verp-default yes\nbcc archive@bcc.test')
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('news@sender.test', ['b.c@one.test'])
    assert client.command('RCPT TO:<c@one.test>')[0] == 452
    assert client.data(b'A: 1\r\n' + BODY)[0] == 250
    client.envelope('', ['b@one.test', 'c@one.test'])
    assert client.data(b'A: 1\r\n' + BODY)[0] == 250
    client.close()
    rows = daemon.wait_for_rows(10)[5:]
    assert sorted((row['orig'], row['rcpt']) for row in rows) == [
        ('', 'archive@bcc.test'), ('', 'b@one.test'), ('', 'c@one.test'),
        ('news-b.c=one.test@sender.test', 'archive@bcc.test'),
        ('news-b.c=one.test@sender.test', 'b.c@one.test')]


def test_mail_that_wants_a_login_is_refused_while_there_is_none(relay):
    """An imported file often relays for everybody who has logged in: it must not relay for all."""
    daemon, _ = relay('always-allow-relaying yes\nrequire-auth yes\n')
    client = Smtp(daemon.listen)
    assert client.command('EHLO client.test')[0] == 250
    assert client.command('MAIL FROM:<a@sender.test>')[0] == 250
    assert client.command('RCPT TO:<b@one.test>')[0] == 530
    client.close()


def test_senders_are_rewritten(relay):
    """The source's list first, then that of the virtual MTA; VERP builds on what they made."""
    daemon, receiver = relay('process-x-virtual-mta yes\nrewrite-list in\nverp-default yes\n'
                             '</source>\n<rewrite-list in>\nmail-from a@sender.test b@two.test\n'
                             'from-domain sender.test three.test\n</rewrite-list>\n'
                             '<rewrite-list out>\nfrom-domain three.test four.test\n'
                             '</rewrite-list>\n<virtual-mta y>\nrewrite-list out\n'
                             '</virtual-mta>\n<source 127.0.0.0/8>')
    ways = [('a@sender.test', b'w', 'b-b=one.test@two.test'),
            ('c@sender.test', b'w', 'c-b=one.test@three.test'),
            ('c@sender.test', b'y', 'c-b=one.test@four.test'),
            ('c@other.test', b'y', 'c-b=one.test@other.test'), ('', b'y', '')]
    for count, (sender, way, wanted) in enumerate(ways, 1):
        assert send_message(daemon.listen, sender, ['b@one.test'],
                            b'x-virtual-mta: ' + way + b'\r\n' + BODY)[0] == 250
        assert last_row(daemon, count)['orig'] == wanted
        assert receiver.wait(count)[-1][0].strip('<>') == wanted




def test_repetitions_are_taken_once(relay):
    """The same source, job, Message-ID and recipient: 250 again, and no second delivery; whatever
    differs in one of them is mail of its own. Over many connections, so over both shards."""
    daemon, receiver = relay('dedup-window 1h\nprocess-x-job yes')
    one = b'Message-ID: <one@sender.test>\r\nX-Job: j\r\n'
    first = send_message(daemon.listen, 'a@sender.test', ['a@one.test', 'b@one.test'], one + BODY)
    assert first[0] == 250
    name = first[1].split('id=')[1]
    for _ in range(6):
        again = send_message(daemon.listen, 'a@sender.test', ['b@one.test', 'a@one.test'],
                             one + BODY)
        assert again == (250, f'2.0.0 ok, it was accepted before, id={name}')
    daemon.wait_for(10, delivered=2, accepted_messages=1, duplicate_messages=6)
    # Only who has not had it gets it, whichever stands where, and a large message is no other.
    for size, new in [(0, 'c'), (200000, 'd')]:
        rest = BODY + b'x' * 70 + b'\r\n' + (b'y' * 70 + b'\r\n') * (size // 72)
        assert send_message(daemon.listen, 'a@sender.test',
                            ['a@one.test', new + '@one.test', 'b@one.test', new + '@one.test'],
                            one + rest)[0] == 250
        assert send_message(daemon.listen, 'a@sender.test', [new + '@one.test'], one + rest)[0] == 250
        daemon.wait_for_rows({'c': 4, 'd': 6}[new])
        got = receiver.wait({'c': 2, 'd': 3}[new])[-1]
        assert got[1] == [f'{new}@one.test'] * 2
        assert own_header(got[2]).rstrip(b'\r\n') == \
            (b'Message-ID: <one@sender.test>\r\n' + rest).rstrip(b'\r\n')
    # Another job, another id, none, two.
    for count, header in enumerate([one.replace(b'j\r', b'k\r'), one.replace(b'one', b'two'), b'',
                                    one + one], 7):
        assert send(daemon, header)[0] == 250
        daemon.wait_for_rows(count)
    assert send(daemon, b'')[0] == 250
    daemon.wait_for_rows(11)
    assert daemon.counters()['duplicate_messages'] == 8
    # A restart forgets, and says so in the manual.
    daemon.kill()
    daemon.start()
    assert send(daemon, one)[0] == 250
    daemon.wait_for_rows(12)


def test_a_stolen_account_is_slowed(relay):
    """Recipients are counted over all connections and shards, whole messages at a time."""
    daemon, _ = relay('max-rcpt-in-rate 10/h')
    for _ in range(4):
        assert send_message(daemon.listen, 'a@sender.test', ['a@one.test', 'b@one.test'],
                            BODY)[0] == 250
    assert send_message(daemon.listen, 'a@sender.test',
                        [f'{i}@one.test' for i in range(3)], BODY)[0] == 452
    assert send(daemon, b'')[0] == 250
    assert send(daemon, b'')[0] == 250
    for _ in range(6):
        code, text = send(daemon, b'')
        assert (code, text.split(' ')[0]) == (452, '4.7.1')
    assert send_message(daemon.listen, 'a@sender.test',
                        [f'{i}@one.test' for i in range(11)], BODY)[0] == 550
    daemon.wait_for(10, delivered=10)
    log = daemon.program.log()
    assert log.count('more recipients than max-rcpt-in-rate') == 2, log


def test_broken_recipients_may_be_taken_and_bounce(relay):
    """Where the source has accept-invalid-recipients; with a row, and beside a good one."""
    daemon, receiver = relay('accept-invalid-recipients yes')
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.envelope('a@sender.test', ['b@one.test', 'no one@two.test', 'nobody@-x-.test'])
    for line in ('RCPT TO:c@one.test', 'RCPT TO:<>', 'RCPT TO:<d@one.test> SIZE=7'):
        assert client.command(line)[0] in (501, 555), line
    assert client.data(b'Subject: s\r\n\r\nx\r\n')[0] == 250
    rows = {row['rcpt']: row for row in daemon.wait_for_rows(3)}
    assert rows['b@one.test']['type'] == 'd'
    for rcpt in ('no one@two.test', 'nobody@-x-.test'):
        assert rows[rcpt]['type'] == 'b'
        assert rows[rcpt]['dsnStatus'].startswith('5.1.3 ')
    assert len(receiver.wait(1)) == 1


def test_memory_of_the_machine_puts_injection_off(relay):
    """It has more than one percent of it in use; a reload lifts the limit."""
    daemon, _ = relay('max-message-hops 99\n</source>\nmax-memory-usage-percent 1\n<source 10.0.0.0/8>')
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    code, text = client.command('MAIL FROM:<a@sender.test>')
    assert (code, text[:5]) == (452, '4.3.2')
    with open(daemon.config_path, encoding='utf-8') as config:
        config_text = config.read()
    with open(daemon.config_path, 'w', encoding='utf-8') as config:
        config.write(config_text.replace('percent 1\n', 'percent 100\n'))
    assert daemon.cli('reload').returncode == 0
    until(lambda: client.command('MAIL FROM:<a@sender.test>')[0] == 250, 10, 'mail is taken')
