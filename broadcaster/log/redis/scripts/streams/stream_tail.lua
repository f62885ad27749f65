-- stream_tail: where a stream stands, for front-ends that check what they were pushed.
-- KEYS log, meta, lease
-- ARGV fields of meta
-- Returns {the newest entry's id ('' of an empty log), PTTL of the lease, Redis's time in ms, the fields}
-- The newest event, which may be large, stays here.
-- @include clock
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return {
  newest and newest[1] or '',
  redis.call('PTTL', KEYS[3]),
  read_clock(),
  redis.call('HMGET', KEYS[2], unpack(ARGV)),
}
