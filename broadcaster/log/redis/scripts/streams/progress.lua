-- progress: what the end of a feed's log reports of its progress, for lists.
-- KEYS log
-- ARGV most entries to look at, most bytes of them, most bytes of one report
-- Returns the reports, the newest first, up to one that names no job: it is the newest of the whole feed.
local PREFIX, NAMED, STEP = '{"type":"data-progress",', '"id":', 16
local entries_left, bytes_left, largest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local reports, upto = {}, '+'
while entries_left > 0 and bytes_left > 0 do
  local rows = redis.call('XREVRANGE', KEYS[1], upto, '-', 'COUNT', math.min(STEP, entries_left))
  for _, row in ipairs(rows) do
    local event = ''
    for i = 1, #row[2], 2 do
      if row[2][i] == 'e' then event = row[2][i + 1] end
    end
    bytes_left = bytes_left - #event
    if #event <= largest and string.sub(event, 1, #PREFIX) == PREFIX then
      reports[#reports + 1] = event
      if not string.find(event, NAMED, 1, true) then return reports end
    end
  end
  if #rows < STEP then return reports end
  entries_left = entries_left - #rows
  upto = '(' .. rows[#rows][1]
end
return reports
