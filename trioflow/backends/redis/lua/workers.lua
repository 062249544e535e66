-- Free what a worker holds when it ends.

-- Free an instance whose worker has not stored a turn of it; return its life. If the worker died,
-- it is a suspect from now on.
local function free_instance(id, ready_at, died)
  local row = redis.call('HMGET', P .. 'i:' .. id, 'queue', 'priority', 'deaths', 'life')
  local deaths = tonumber(row[3] or '')
  if died then
    deaths = deaths or 0
  elseif deaths then
    deaths = math.max(deaths - 1, 0)
  end
  redis.call('HSET', P .. 'i:' .. id, 'worker', '', 'sticky', '')
  if deaths then
    redis.call('HSET', P .. 'i:' .. id, 'deaths', deaths)
  end
  if row[1] then
    list_ready(id, row[1], row[2], deaths, '', ready_at)
  end
  return row[4] or ''
end

-- Return a worker that holds something, or may, though its row is gone; nil if there is none.
local function rowless()
  for _, worker in ipairs(redis.call('HKEYS', P .. 'names')) do
    if not alive(worker) then
      return worker
    end
  end
end

-- Free all that a worker holds, and delete it. If it died, its activities count an attempt, unless
-- it held an instance in isolation, which is to blame then.
local function remove_worker(worker, died)
  redis.call('ZREM', P .. 'workers', worker)
  redis.call('HDEL', P .. 'names', worker)
  redis.call('HDEL', P .. 'serves', worker)
  redis.call('HDEL', P .. 'started', worker)
  redis.call('DEL', P .. 'kept:' .. worker)
  local held = redis.call('ZRANGE', P .. 'held:' .. worker, 0, -1, 'WITHSCORES')
  local blamed = false
  for at = 1, #held, 2 do
    local deaths = redis.call('HGET', P .. 'i:' .. held[at], 'deaths')
    blamed = blamed or (tonumber(deaths or '') or 0) > 0
    free_instance(held[at], math.min(tonumber(held[at + 1]), now), died)
  end
  local tokens = redis.call('SMEMBERS', P .. 'running:' .. worker)
  redis.call('DEL', P .. 'held:' .. worker)
  flush()
  give_back_all(worker, tokens, died and not blamed and function(activity)
    activity.attempt = activity.attempt + 1
  end)
  flush()
end
