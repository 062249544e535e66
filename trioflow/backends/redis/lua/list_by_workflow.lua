-- include: base
-- List a part of the instances that an older trioflow has stored with their workflows. ARGV: how many
-- numbers at most. Returns how many are left.

local last = tonumber(redis.call('GET', P .. 'seq') or 0)
local listed = tonumber(redis.call('GET', P .. 'listed') or 0)
local to = math.min(listed + tonumber(ARGV[1]), last)
if to > listed then
  for _, status in ipairs({ 'running', 'suspended', 'completed', 'failed', 'cancelled', 'terminated' }) do
    local key = P .. 'status:' .. status
    local found = redis.call('ZRANGEBYSCORE', key, '(' .. exact(listed), exact(to), 'WITHSCORES')
    for n = 1, #found, 2 do
      local workflow = redis.call('HGET', P .. 'i:' .. found[n], 'workflow')
      if workflow then
        zadd('workflow:' .. workflow, found[n + 1], found[n])
      end
    end
  end
  flush()
  redis.call('SET', P .. 'listed', exact(to))
end
return last - to
