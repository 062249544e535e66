-- include: base activities instances
-- Put an event into an inbox. ARGV: nonce, again, source, instance, event. Returns an Update.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
if deliver(ARGV[4], nil, ARGV[5]) then
  flush()
  publish(ARGV[3])
  return answer(ARGV[1], { 'done' })[1]
end
return redis.call('EXISTS', P .. 'i:' .. ARGV[4]) == 1 and 'finished' or 'not found'
