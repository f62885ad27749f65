-- webhook_promise: promise a generation's webhook: it is checked until it is delivered, whichever process ends the
-- generation.
-- KEYS promised, due
-- ARGV generation id, most pending, check_ms, 1: an id that may be used anew (a feed's)
-- Returns 1 promised, 0 it was promised already, -1 as many are pending as may be.
-- The webhook of an id's former stream may still be due, or be about to be dropped: the promise of its new one is beside
-- the former one's, and has a time of its own.
-- @include clock
local is_promised, is_due = redis.call('ZSCORE', KEYS[1], ARGV[1]), redis.call('ZSCORE', KEYS[2], ARGV[1])
if ARGV[4] ~= '1' and (is_promised or is_due) then return 0 end
if not is_promised and not is_due and redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return -1 end
local now_ms = read_clock()
-- The half of a millisecond makes it another time than that of a check which took the former promise a moment ago.
redis.call('ZADD', KEYS[1], digits(now_ms + tonumber(ARGV[3])) .. (ARGV[4] == '1' and '.5' or ''), ARGV[1])
return is_promised and 0 or 1
