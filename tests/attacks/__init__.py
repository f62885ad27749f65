"""What one client can do to the others, carried out on real processes: in small as tests, at full size by hand.

python -m tests.attacks.unread [--viewers 200] [--megabytes 7]
python -m tests.attacks.resumes [--viewers 1000] [--events 50000]
python -m tests.attacks.bodies [--mounted]
python -m tests.attacks.blocked_front_end [--seconds 120]
python -m tests.attacks.lists [--feeds 60] [--events 7] [--lists 40]
python -m tests.attacks.floods.unknown_streams [--requests 2000]
python -m tests.attacks.unread_json [--connections 200] [--megabytes 7] [--mounted]
"""
