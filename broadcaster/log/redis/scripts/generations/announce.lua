-- announce: a generation is about to be created; from here on the sweep finds it, even if its creator dies.
-- KEYS open
-- ARGV generation id
-- Returns 1 announced, 0 it is in the open index already.
-- @include clock
return redis.call('ZADD', KEYS[1], 'NX', digits(read_clock()), ARGV[1])
