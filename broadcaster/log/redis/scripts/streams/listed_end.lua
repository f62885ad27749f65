-- listed_end: where a stream stands, and what the end of its log reports of its progress, for lists.
-- KEYS log, lease
-- ARGV most entries to look at for the progress (0: none), most bytes of them, most bytes of one report
-- Returns {the newest entry's id ('' of an empty log), 1 if the lease is held, the reports, the newest first}. The
-- reports go up to one that names no job: it is the newest of the whole feed.
-- Events may be large. They stay here, and are read one at a time: beyond the bytes, none is read.
local PREFIX, NAMED = '{"type":"data-progress",', '"id":'
local entries_left, bytes_left, largest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local listed = {'', redis.call('PTTL', KEYS[2]) == -2 and 0 or 1}
local upto = '+'
repeat
  local row = redis.call('XREVRANGE', KEYS[1], upto, '-', 'COUNT', 1)[1]
  if not row then break end
  if upto == '+' then listed[1] = row[1] end
  upto = '(' .. row[1]
  local event = ''
  for i = 1, #row[2], 2 do
    if row[2][i] == 'e' then event = row[2][i + 1] end
  end
  bytes_left, entries_left = bytes_left - #event, entries_left - 1
  if entries_left >= 0 and #event <= largest and string.sub(event, 1, #PREFIX) == PREFIX then
    listed[#listed + 1] = event
    if not string.find(event, NAMED, 1, true) then break end
  end
until entries_left <= 0 or bytes_left <= 0
return listed
