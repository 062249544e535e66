-- include: base fenced activities instances sharing ending
-- End an instance and its unfinished descendants.
-- ARGV: nonce, again, source, instance, outcome, life (see `is_meant`), and the two parts of its
-- parent's event, between which stands the parent's command. Returns an Effect.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local top = open_row(ARGV[4])
if not top then
  return redis.call('EXISTS', P .. 'i:' .. ARGV[4]) == 1 and 'finished' or 'not found'
end
if not is_meant(top[8], ARGV[6]) then
  return 'finished'
end
terminate_family(ARGV[4], top, ARGV[5], ARGV[7], ARGV[8])
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
