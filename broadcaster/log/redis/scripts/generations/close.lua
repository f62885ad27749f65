-- close: generations are over: they leave the open index, and their jobs leave the queue, also from a worker.
-- KEYS ready, ready:hi, delayed, open, waiting, turns, running
-- ARGV generation id ...
-- Returns how many left the open index.
-- @include closing
local closed = 0
for _, id in ipairs(ARGV) do closed = closed + close(id) end
return closed
