"""What accounting files hold: columns, header fields, filters, hidden addresses, times, names."""
import csv
import glob
import hashlib
import hmac
import os

from harness import accounting_rows, send_message, until
from test_peers import Receiver

TEXT = (b'From: a@sender.test\r\nSubject: =?utf-8?q?one?=,\r\n two\r\nX-Campaign: c7\r\n\r\nHello\r\n')


def enough(path, delivered):
    """All rows, once so many recipients have been delivered."""
    rows = accounting_rows(path)
    return rows if len([row for row in rows if row['type'] == 'd']) >= delivered else None


def test_columns_filters_and_names(world):
    """One file of each kind beside each other; a recipient that is put off once is told when it was
    first tried, and what the header said outlives the message's stay in memory."""
    daemon = world.daemon()
    receiver = Receiver(world, {'soon@d.test': '450 4.2.1 not now'})
    moved = world.path('moved')
    os.makedirs(moved)
    daemon.write(
        daemon.base() + 'host-id m7\ntrack-time-first-attempt yes\n'
        f'<domain *>\n    smtp-hosts [{receiver.address}]:2525\n    retry-after 2s\n</domain>\n'
        f'<acct-file {world.path("some.csv")}>\n    records d,t\n    iso-times no\n'
        '    record-fields d,t rcpt,dsnStatus,header_Subject,timeFirstAttempt,timeLogged,userString\n'
        '    record-fields d envId,totalSecondsQueued,jobId,!dsnStatus\n'
        '    map-header-to-field d header_X-None jobId\n'
        '    map-header-to-field d header_X-Campaign jobId\n    user-string here\n</acct-file>\n'
        f'<acct-file {world.path("only.csv")}>\n    records d\n    queue-filter *.d.test/v\n'
        f'    privacy-policy hmac-sha256-0102\n    move-to {moved}\n    move-interval 1s\n'
        '    count-moved-records yes\n</acct-file>\n')
    daemon.start()
    for rcpt in ['soon@d.test', 'sub@x.d.test', 'sub2@x.d.test']:
        assert send_message(daemon.listen, 'a@sender.test', [rcpt], TEXT)[0] == 250
    daemon.wait_for(20, delivered=2)
    daemon.wait_for_rows(1, kinds='t')
    receiver.replies.clear()
    daemon.wait_for(20, delivered=3)
    rows = until(lambda: enough(world.path('some.csv'), 3), 20, 'rows')
    assert list(rows[0]) == ['type', 'rcpt', 'header_Subject', 'timeFirstAttempt', 'timeLogged',
                             'userString', 'envId', 'totalSecondsQueued', 'jobId', 'dsnStatus']
    put_off = [row for row in rows if row['type'] == 't']
    late = [row for row in rows if row['type'] == 'd' and row['rcpt'] == 'soon@d.test']
    assert put_off and len(late) == 1 and len(rows) == 3 + len(put_off)
    assert put_off[0]['dsnStatus'].startswith('4.2.1 ') and put_off[0]['jobId'] == ''
    for row in rows:
        assert row['header_Subject'] == '=?utf-8?q?one?=, two' and row['userString'] == 'here'
        assert row['type'] == 't' or row['jobId'] == 'c7'
    assert put_off[0]['timeFirstAttempt'] == put_off[0]['timeLogged']
    assert late[0]['timeFirstAttempt'] == put_off[0]['timeFirstAttempt']
    assert int(late[0]['timeLogged']) > int(late[0]['timeFirstAttempt'])
    assert int(late[0]['totalSecondsQueued']) >= 1

    hidden = until(lambda: enough(os.path.join(moved, 'only.csv'), 2), 15, 'moved rows')
    wanted = [hmac.new(bytes([1, 2]), rcpt, hashlib.sha256).hexdigest()
              for rcpt in [b'sub@x.d.test', b'sub2@x.d.test']]
    assert sorted(row['rcpt'] for row in hidden) == sorted(wanted)
    for name in glob.glob(os.path.join(moved, '*')):
        with open(name, newline='', encoding='utf-8') as file:
            count = len(list(csv.reader(file))) - 1
        assert name.endswith(f'-{count}.csv')
    assert all(b'.m7;' in message[2].split(b'\r\nFrom:')[0] for message in receiver.wait(3))
    assert daemon.shutdown() == 0
