-- Which instances are in trouble; what that means is said in `InstanceFilter`. Needs activities and
-- reading. `suspended` is a status, and nothing of it is here.

local living = {}

-- Return whether a worker has a row and its own lease is not over.
local function lives(worker)
  if living[worker] == nil then
    local beat = redis.call('ZSCORE', P .. 'workers', worker)
    local read, serves = pcall(cmsgpack.unpack, redis.call('HGET', P .. 'serves', worker) or '')
    local lease = read and type(serves) == 'table' and serves[3]
    living[worker] = beat and (not lease or tonumber(beat) + lease >= now) and true or false
  end
  return living[worker]
end

-- Which queues living workers serve: for instances, and for activities. One that does not say may
-- serve any.
local served
local function is_served(kind, queue)
  if not served then
    served = { {}, {} }
    for _, worker in ipairs(redis.call('ZRANGE', P .. 'workers', 0, -1)) do
      if lives(worker) then
        local packed = redis.call('HGET', P .. 'serves', worker) or ''
        local read, serves = pcall(cmsgpack.unpack, packed)
        if not read or type(serves) ~= 'table' then
          served.any = true
        else
          for each = 1, 2 do
            for _, name in ipairs(serves[each]) do
              served[each][name] = true
            end
          end
        end
      end
    end
  end
  return served.any or served[kind][queue]
end

-- Return whether a free activity, or a held one, is the trouble.
local function is_trouble(where, activity)
  if activity.damaged then
    return false
  end
  if where.trouble == 'retrying' then
    return activity.attempt > 1
  end
  if where.trouble == 'held' then
    return activity.worker ~= '' and not lives(activity.worker)
  end
  if activity.worker ~= '' then
    return false
  end
  if where.trouble == 'overdue' then
    return activity.visible_at <= now - where.trouble_after
  end
  return activity.visible_at <= now and not is_served(2, activity.queue)
end

-- Return whether a worker that lives holds an instance without doing anything.
local function is_stuck(id, ready_at, turns, wake_at, held_at, created_at, since)
  local seen_at = held_at and held_at ~= '' and held_at or created_at
  if not seen_at or tonumber(seen_at) > since then
    return false
  end
  wake_at = tonumber(wake_at or '') or INF
  -- What was unread when it was taken has no time; what came later makes it ready from then on.
  return tonumber(turns) == 0 or wake_at <= since or ready_at <= since
    or ready_at == INF and redis.call('HLEN', P .. 'x:' .. id) > 0
end

-- Return whether the row of a running instance is the trouble, whatever its activities are.
local function is_row_trouble(where, id, row)
  if where.trouble == 'retrying' then
    return false
  end
  local since = now - where.trouble_after
  local worker = row[4] or ''
  if where.trouble == 'held' then
    if worker == '' or not lives(worker) then
      return worker ~= ''
    end
    local ready_at = tonumber(redis.call('ZSCORE', P .. 'held:' .. worker, id) or '') or INF
    return is_stuck(id, ready_at, row[8], row[9], row[10], row[11], since)
  end
  if worker ~= '' then
    return false
  end
  local ready_at = tonumber(ready_score(id, row[5] or '', row[6], row[7] and row[7] ~= '') or '')
  if where.trouble == 'overdue' then
    return ready_at and ready_at <= since
  end
  return ready_at and ready_at <= now and not is_served(1, row[5] or '')
end

local function row_of(id)
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'execution', 'life', 'worker', 'queue', 'priority', 'deaths',
    'turns', 'wake_at', 'held_at', 'created_at'
  )
  return row[1] == 'running' and row or nil
end

function in_trouble(where, id)
  local row = row_of(id)
  if not row then
    return false
  end
  if is_row_trouble(where, id, row) then
    return true
  end
  local found = false
  each_activity(id, row[3] or '', function(execution, _, activity)
    found = found or execution == tonumber(row[2]) and is_trouble(where, activity)
  end)
  return found
end

-- Return instances that are in a trouble or may be, by their ids, in any order: about `size` are looked
-- at; then where to go on, a `from` for the next call, or ''. What waits is read as far as it is the
-- trouble. With `most`, it ends when there are so many, and the rows of what waits are looked at, too,
-- so that it is in the trouble; without, `means` has to tell that. What is meanwhile put into another
-- place may be missed, and what has been seen may come again in another call.
local function candidates(where, size, from, most)
  local found, ids, seen = {}, {}, 0
  local place = from ~= '' and cmsgpack.unpack(from) or {}
  local function add(id)
    if not found[id] then
      found[id] = true
      ids[#ids + 1] = id
    end
  end
  local function add_token(token)
    local id, execution, command, life = parse_token(token)
    if not most then
      return id and add(id)
    end
    local row = id and not found[id] and row_of(id)
    if row and tonumber(row[2]) == execution and (row[3] or '') == life then
      local activity = load_activity(id, execution, command, life)
      if activity and is_trouble(where, activity) then
        add(id)
      end
    end
  end
  local function add_row(id)
    local row = not most or row_of(id)
    if row and (not most or is_row_trouble(where, id, row)) then
      add(id)
    end
  end
  -- The same for what a worker holds, of which there is much: it asks for less.
  local function add_held(id, worker, ready_at)
    local key = P .. 'i:' .. id
    if not lives(worker) then
      return redis.call('HGET', key, 'status') == 'running' and add(id)
    end
    local row = redis.call('HMGET', key, 'status', 'turns', 'wake_at', 'held_at', 'created_at')
    local since = now - where.trouble_after
    if row[1] == 'running'
      and is_stuck(id, tonumber(ready_at) or INF, row[2], row[3], row[4], row[5], since) then
      add(id)
    end
  end
  local function is_enough()
    return seen >= size or most and #ids >= most
  end
  -- Go through a sorted set up to a score, from behind a member that had a score of its own, or from the
  -- beginning if that is ''. If it has it no more, all of that score come again. Returns the last
  -- member seen and its score, or nothing if all of them have been seen.
  local function through(name, last, visit, member, score)
    local key, at = P .. name, 0
    if member ~= '' and redis.call('ZSCORE', key, member) == score then
      at = redis.call('ZRANK', key, member) + 1
    elseif member ~= '' then
      at = redis.call('ZCOUNT', key, '-inf', '(' .. score)
    end
    while not is_enough() do
      local part = redis.call('ZRANGE', key, at, at + 999, 'WITHSCORES')
      for n = 1, #part, 2 do
        if tonumber(part[n + 1]) > last then
          return
        end
        member, score = part[n], part[n + 1]
        visit(member)
        seen = seen + 1
        if is_enough() then
          return member, score
        end
      end
      if #part < 2000 then
        return
      end
      at = at + 1000
    end
    return member, score
  end
  -- Go through what waits in the lanes of one name, from `place` on; return where to go on, or nothing
  -- if all of it has been seen.
  local function through_lanes(name, whats, last, visit)
    local keys = {}
    local priorities = redis.call('SMEMBERS', P .. 'lanes:' .. name)
    priorities[#priorities + 1] = 0
    for _, priority in ipairs(priorities) do
      for _, what in ipairs(whats) do
        keys[#keys + 1] = what .. lane(name, priority)
      end
    end
    table.sort(keys)
    for _, key in ipairs(keys) do
      if key >= (place[4] or '') then
        local same = key == place[4]
        local member, score = through(
          key, last, visit, same and place[5] or '', same and place[6] or ''
        )
        if member then
          return { key, member, score }
        end
        seen = seen + 1
      end
    end
    place = {}
  end
  -- Go through what waits for a worker: instances, then activities; of those queues alone that may be
  -- meant.
  local function through_waiting()
    local last = where.trouble == 'overdue' and now - where.trouble_after or now
    local queues = redis.call('SMEMBERS', P .. 'queues')
    table.sort(queues)
    for kind = place[1] or 1, 2 do
      for _, queue in ipairs(queues) do
        if queue >= (place[2] or '')
          and (where.trouble == 'overdue' or not is_served(kind, queue)) then
          if queue ~= place[2] then
            place = {}
          end
          local whats = kind == 1 and { 'ready', 'suspect', 'waits' } or { 'visible' }
          local visit = kind == 1 and add_row or add_token
          local key = place[3] or ''
          while key do
            local onwards = through_lanes(lane_name(queue, key), whats, last, visit)
            if onwards then
              return cmsgpack.pack({ kind, queue, key, unpack(onwards) })
            end
            key = kind == 2
              and redis.call('ZRANGEBYLEX', P .. 'keys:' .. queue, '(' .. key, '+', 'LIMIT', 0, 1)[1]
          end
        end
      end
      place = {}
    end
    return ''
  end
  -- Go through what workers hold, one worker after the other. A scan meets all that is there from its
  -- beginning to its end.
  local function through_held()
    local names = redis.call('HKEYS', P .. 'names')
    table.sort(names)
    local after, what, cursor = place[1] or '', place[2] or 1, place[3] or '0'
    for _, worker in ipairs(names) do
      if worker >= after then
        if worker > after then
          what, cursor = 1, '0'
        end
        while what <= 2 do
          local scan, key, step, visit = 'ZSCAN', 'held:', 2, add_held
          if what == 2 then
            scan, key, step, visit = 'SSCAN', 'running:', 1, add_token
          end
          local part = { '0', {} }
          if what == 1 or not lives(worker) then
            part = redis.call(scan, P .. key .. worker, cursor, 'COUNT', 1000)
          end
          for n = 1, #part[2], step do
            visit(part[2][n], worker, part[2][n + 1])
            seen = seen + 1
          end
          cursor = part[1]
          if cursor == '0' then
            what = what + 1
          end
          if is_enough() then
            return cmsgpack.pack({ worker, what, cursor })
          end
        end
      end
    end
    return ''
  end
  if where.trouble == 'held' then
    return ids, through_held()
  elseif where.trouble == 'retrying' then
    local member, score = through('retried', INF, add_token, place[1] or '', place[2] or '')
    return ids, member and cmsgpack.pack({ member, score }) or ''
  end
  return ids, through_waiting()
end
