-- close_unwritten: as close, for generations of the open index that had no meta. One that is not as it was found stays: a
-- repeated create has given it a job since.
-- KEYS ready, ready:hi, delayed, open, waiting, turns, running
-- ARGV generation id, its score in the open index when it was found, ...
-- Returns how many left the open index.
-- @include closing
local closed = 0
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[4], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then closed = closed + close(ARGV[i]) end
end
return closed
